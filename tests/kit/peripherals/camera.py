"""An ONVIF camera (IPyCam) whose picture moves: python camera.py ADDRESS HTTP_PORT RTSP_PORT [USER PASSWORD]. Says "ready"."""

import sys
import time

import numpy
from ipycam import CameraConfig, IPCamera, WSDiscoveryServer

address, http, rtsp, *user = sys.argv[1:]
if address.startswith("127."):
    WSDiscoveryServer.start = lambda self: None  # it announces itself to a network, and this one is none
config = CameraConfig(
    name="Gate", local_ip=address, onvif_port=int(http), rtsp_port=int(rtsp),
    main_width=320, main_height=240, main_fps=10, main_bitrate="512K", sub_width=160, sub_height=120,
    **(dict(zip(("username", "password"), user, strict=True)) if user else {}),
)  # fmt: skip
camera = IPCamera(config)
if not camera.start():
    sys.exit("it does not start")
print("ready", flush=True)
number = 0
while True:
    picture = numpy.full((240, 320, 3), 40, dtype=numpy.uint8)
    picture[60:180, number * 4 % 280 : number * 4 % 280 + 40] = 255
    camera.stream(picture)
    number += 1
    time.sleep(0.1)
