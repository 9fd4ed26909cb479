"""An ONVIF camera (IPyCam), its mapper as a container by Deployment, and its video published to the cloud, where ffmpeg and curl look at it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit import images
from tests.kit.foreign import environment, ffmpeg
from tests.kit.topology import until
from tests.netns.test_join import KUBEEDGE, Site, site  # noqa: F401
from tests.netns.test_node_conditions import uplink_of

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
CAMERA = str(ROOT / "tests/kit/peripherals/camera.py")
ADDRESS, PORT, RTSP = "203.0.113.7", 8081, 8554  # of the machine that the camera is on
IMAGE = (
    "demo:1"  # busybox; Python and this project are the machine's, which spares the minute that an image of both takes
)
MOUNTED = [path for path in ("/usr", "/lib", "/lib64", str(ROOT)) if Path(path).exists()]
COMMAND = [*KUBEEDGE, "mapper", "onvif", "--listen", "$(HOST_IP):8085", "--metrics", "127.0.0.1:10021"]
FIND = """
import asyncio, json
from kubeedge.mapper.scan import core, driver
request = core.ScanRequest(networks=core.networks(["203.0.113.0/24"]), finders=["onvif"], seconds=20)
print(json.dumps([one.as_json() for one in asyncio.run(driver.scan(request)).findings]))
"""
MANIFEST = f"""
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {{name: camera}}
spec:
  protocol: onvif
  properties:
  - {{name: model, type: STRING, accessMode: ReadOnly}}
  - {{name: resolution, type: STRING, accessMode: ReadOnly}}
  - {{name: pan, type: FLOAT, accessMode: ReadOnly}}
  - {{name: position, type: STRING, accessMode: ReadWrite}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: gate}}
spec:
  deviceModelRef: {{name: camera}}
  nodeName: edge1
  protocol:
    protocolName: onvif
    configData: {{url: "{ADDRESS}:{PORT}", userName: admin, password: secret, allowBasic: true, video: true}}
  properties:
  - {{name: model, collectCycle: 500}}
  - {{name: resolution, collectCycle: 500}}
  - {{name: pan, collectCycle: 500}}
  - {{name: position, collectCycle: 500, desired: {{value: "0.5,-0.25,0"}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: onvif-mapper}}
spec:
  replicas: 1
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: onvif-mapper}}}}
  template:
    metadata: {{labels: {{app: onvif-mapper}}}}
    spec:
      hostNetwork: true
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 2
      containers:
      - name: mapper
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        command: {json.dumps(COMMAND)}
        env: [{{name: HOST_IP, valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}}}]
        readinessProbe: {{httpGet: {{host: 127.0.0.1, port: 10021, path: /readyz}}, periodSeconds: 1}}
        resources: {{limits: {{memory: 64Mi}}}}
        securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
        volumeMounts: {json.dumps([{"name": f"v{n}", "mountPath": path, "readOnly": True} for n, path in enumerate(MOUNTED)])}
      volumes: {json.dumps([{"name": f"v{n}", "hostPath": {"path": path}} for n, path in enumerate(MOUNTED)])}
---
apiVersion: v1
kind: Service
metadata: {{name: cameras, annotations: {{kubeedge.io/publish: cameras}}}}
spec:
  selector: {{app: onvif-mapper}}
  ports: [{{port: 80, targetPort: 8085}}]
"""


def test_a_camera_is_found_set_by_kubectl_and_seen_from_the_cloud(site: Site) -> None:  # noqa: F811
    def twins() -> dict[str, Any]:
        found = json.loads(site.kubectl("get", "device", "gate", "-o", "json")).get("status", {}).get("twins", ())
        return {twin["propertyName"]: twin["reported"]["value"] for twin in found if "reported" in twin}

    def ffmpeg_sees(url: str, frames: int) -> str:
        argv = (ffmpeg(), "-v", "error", "-nostdin", "-i", url, "-frames:v", str(frames), "-f", "framecrc", "-")
        return site.cloud.run(*argv)

    site.join()
    config = site.root / "etc/kubeedge/kubeedge.yaml"
    head, name, tail = config.read_text().partition("  devices:")
    config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
    site.start_agent()
    site.machine.ip("route", "add", "239.255.255.250/32", "dev", uplink_of(site.machine))
    user = ("admin", "secret")
    log, env = site.directory / "camera.log", environment("camera")
    camera = site.machine.spawn(sys.executable, CAMERA, ADDRESS, str(PORT), str(RTSP), *user, log=log, env=env)
    archive = images.build(site.directory / "demo.tar", IMAGE)
    socket = str(site.root / "run/kubeedge/edge.sock")
    site.machine.run(*KUBEEDGE, "image", "import", str(archive), IMAGE, "--socket", socket)
    until(lambda: "ready" in log.read_text(), what="the camera")
    (found,) = json.loads(site.machine.run(sys.executable, "-c", FIND))
    assert found["config"] == {"url": f"http://{ADDRESS}:{PORT}/onvif/device_service"}
    assert found["name"] == "onvif-203-0-113-7" and found["info"]["name"] == "Gate"

    site.kubectl("apply", "-f", "-", input=MANIFEST)
    seen = {"model": "VirtualCam-1", "resolution": "320x240", "pan": "0.5", "position": "0.5,-0.25,0"}
    until(lambda: twins() == seen, what="the camera's values")
    change = '[{"op":"replace","path":"/spec/properties/3/desired/value","value":"-0.5,0,0"}]'
    site.kubectl("patch", "device", "gate", "--type", "json", "-p", change)
    until(lambda: twins().get("pan") == "-0.5", what="the camera has turned")

    url = "http://127.0.0.1:8080/default/edge1/cameras"
    until(lambda: "default/gate/" in site.cloud.run("curl", "-s", f"{url}/", check=False), what="the page of cameras")
    page = site.cloud.run("curl", "-sfL", f"{url}/default/gate")
    assert "<video" in page and "SourceBuffer" in page
    frames = [line for line in ffmpeg_sees(f"{url}/default/gate/stream", 15).splitlines() if not line.startswith("#")]
    assert len(frames) == 15 and len({line.rpartition(",")[2] for line in frames}) > 5, "the picture moves"
    picture = site.directory / "picture.jpg"
    site.cloud.run("curl", "-sf", "-o", str(picture), f"{url}/default/gate/snapshot.jpg")
    assert picture.read_bytes()[:2] == b"\xff\xd8"
    site.machine.stop(camera)
    until(lambda: "default/gate/" not in site.cloud.run("curl", "-s", f"{url}/"), what="the camera is shown no more")
    answer = site.cloud.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/default/gate/stream")
    assert answer == "404"
