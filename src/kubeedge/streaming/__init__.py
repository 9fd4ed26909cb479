"""The streams of `kubectl exec`, `attach` and `port-forward`, as a kubelet serves them: SPDY/3.1 and WebSocket, the end of the node.

spdy_headers.py  header blocks: names and values, compressed with SPDY's dictionary (pure)
spdy.py          frames and streams of one connection (pure)
byte_stream.py    what carries bytes: a connection, or the messages of a WebSocket; how long it may be silent
spdy_driver.py   a connection of SPDY over a byte stream, with back pressure
websocket.py     a connection of WebSocket messages
negotiation.py   which protocol a client gets
command.py       what exec and attach need of either protocol
status.py        how they ended (pure)
channels.py      the same over a WebSocket: channel.k8s.io, v4 and v5 of it
last_words.py    what a proxy tells a client of SPDY when the node is cut off (pure)
forward.py       port-forward: pairs of streams, each a TCP connection into the pod
port_channels.py  the same over a WebSocket without SPDY in it
ports.py         what both know of ports

Lives elsewhere: which paths there are, and who runs containers (kubeedge.appengine); passing an upgrade on (kubeedge.apiserver.upgrades).
"""
