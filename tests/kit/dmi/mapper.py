"""A mapper over DMI as KubeEdge's framework for Go makes them, with another implementation of gRPC and of protobuf (grpcio).

    python tests/kit/dmi/mapper.py NAME PROTOCOL AGENT_SOCKET OWN_SOCKET [--cycle SECONDS]

It registers within a second or ends, starts its devices, and only then serves its own socket. It ends (exit 3) at a field that is missing, at
a property that the model lacks, and at GetDevice. A report has a connection of its own. It registers once in its life. Each call that it
gets, and each desired value that it writes to its devices, is a line of JSON on stdout. A device keeps what was written to it; `temperature` is 21.5.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import wrappers_pb2
from grpc_tools import protoc

HERE = Path(__file__).parent


def compiled() -> tuple[Any, Any]:
    """The modules that protoc makes of dmi.proto."""
    with tempfile.TemporaryDirectory() as directory:
        wellknown = importlib.resources.files("grpc_tools") / "_proto"
        options = [f"-I{HERE}", f"-I{wellknown}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
        if protoc.main(["protoc", *options, str(HERE / "dmi.proto")]):
            raise SystemExit("protoc failed")
        sys.path.insert(0, directory)
        import dmi_pb2  # type: ignore[import-not-found]
        import dmi_pb2_grpc  # type: ignore[import-not-found]

        sys.path.remove(directory)
        return dmi_pb2, dmi_pb2_grpc


pb, stubs = compiled()
_WRAPPERS = {
    f"google.protobuf.{name}": getattr(wrappers_pb2, name)
    for name in ("StringValue", "Int64Value", "FloatValue", "BoolValue")
}
_lock = threading.Lock()


def say(**line: Any) -> None:
    with _lock:
        print(json.dumps(line), flush=True)


def die(why: str) -> Any:
    say(died=why)
    os._exit(3)


def plain(customized: Any) -> dict[str, Any]:
    found = {}
    for key, value in customized.data.items():
        made = _WRAPPERS[value.TypeName()]()
        value.Unpack(made)
        found[key] = made.value
    return found


class Devices:
    """What runs, as the framework's panel of devices."""

    def __init__(self, agent: str, cycle: float) -> None:
        self.models: dict[str, Any] = {}
        self.running: dict[str, Any] = {}
        self.values: dict[tuple[str, str], str] = {}
        self._agent, self._cycle = agent, cycle

    def start(self, device: Any) -> None:
        key = f"{device.namespace}/{device.name}"
        if not device.HasField("spec") or not device.spec.HasField("protocol"):
            die(f"{key}: nil pointer: protocol")
        model = self.models[f"{device.namespace}/{device.spec.deviceModelReference}"]
        known = {prop.name: prop for prop in model.spec.properties}
        for prop in device.spec.properties:
            if (
                not prop.HasField("desired")
                or not prop.HasField("visitors")
                or not prop.visitors.HasField("configData")
            ):
                die(f"{key}: nil pointer: property {prop.name}")
            if prop.name not in known:
                die(f"{key}: the model lacks {prop.name}")
            if known[prop.name].accessMode != "ReadOnly" and prop.desired.value:
                self.values[key, prop.name] = prop.desired.value
                say(wrote=[key, prop.name, prop.desired.value])
        config, visitors = (
            plain(device.spec.protocol.configData),
            {p.name: plain(p.visitors.configData) for p in device.spec.properties},
        )
        say(
            started=key,
            model=model.name,
            config=config,
            visitors=visitors,
            methods=[m.name for m in device.spec.methods],
        )
        self.running[key] = device

    def report(self) -> None:
        while True:
            time.sleep(self._cycle)
            for key, device in list(self.running.items()):
                for prop in device.spec.properties:
                    value = "21.5" if prop.name == "temperature" else self.values.get((key, prop.name), "")
                    if prop.reportToCloud and value:
                        self.one_report(device, prop, value)
                self.state(device)

    def one_report(self, device: Any, prop: Any, value: str) -> None:
        twin = pb.Twin(propertyName=prop.name, reported=pb.TwinProperty(value=value, metadata={"type": "string"}))
        if prop.desired.value:
            twin.observedDesired.value = prop.desired.value
        status = pb.DeviceStatus(twins=[twin])
        request = pb.ReportDeviceStatusRequest(
            deviceName=device.name, reportedDevice=status, deviceNamespace=device.namespace
        )
        self._tell(lambda agent: agent.ReportDeviceStatus(request, timeout=1))

    def state(self, device: Any) -> None:
        request = pb.ReportDeviceStatesRequest(deviceName=device.name, deviceNamespace=device.namespace, state="OK")
        self._tell(lambda agent: agent.ReportDeviceStates(request, timeout=1))

    def _tell(self, call: Any) -> None:
        try:
            with grpc.insecure_channel(f"unix:{self._agent}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                call(stubs.DeviceManagerServiceStub(channel))
        except grpc.RpcError as exc:
            say(error=f"{exc.code().name}: {exc.details()}")  # type: ignore[attr-defined]


class Service(stubs.DeviceMapperServiceServicer):  # type: ignore[misc]
    """What the agent calls."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    def RegisterDevice(self, request: Any, context: Any) -> Any:
        device = request.device
        key = f"{device.namespace}/{device.name}"
        say(call="RegisterDevice", device=key, new=key not in self._devices.running)
        if key not in self._devices.running:
            if f"{device.namespace}/{device.spec.deviceModelReference}" not in self._devices.models:
                context.abort(grpc.StatusCode.UNKNOWN, "no such model")
            self._devices.start(device)
        return pb.DeviceAnswer(name=device.name)

    def UpdateDevice(self, request: Any, context: Any) -> Any:
        say(call="UpdateDevice", device=f"{request.device.namespace}/{request.device.name}")
        if f"{request.device.namespace}/{request.device.spec.deviceModelReference}" not in self._devices.models:
            context.abort(grpc.StatusCode.UNKNOWN, "no such model")
        self._devices.start(request.device)
        return pb.Empty()

    def RemoveDevice(self, request: Any, context: Any) -> Any:
        say(call="RemoveDevice", device=f"{request.namespace}/{request.name}")
        if self._devices.running.pop(f"{request.namespace}/{request.name}", None) is None:
            context.abort(grpc.StatusCode.UNKNOWN, "no such device")
        return pb.Empty()

    def CreateDeviceModel(self, request: Any, context: Any) -> Any:
        return self._model("CreateDeviceModel", request.model)

    def UpdateDeviceModel(self, request: Any, context: Any) -> Any:
        self._model("UpdateDeviceModel", request.model)
        return pb.Empty()

    def _model(self, call: str, model: Any) -> Any:
        say(call=call, model=f"{model.namespace}/{model.name}")
        self._devices.models[f"{model.namespace}/{model.name}"] = model
        return pb.DeviceAnswer(name=model.name)

    def RemoveDeviceModel(self, request: Any, context: Any) -> Any:
        say(call="RemoveDeviceModel", model=f"{request.namespace}/{request.name}")
        self._devices.models.pop(f"{request.namespace}/{request.name}", None)
        return pb.Empty()

    def GetDevice(self, request: Any, context: Any) -> Any:
        return die("GetDevice was called")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("name", "protocol", "agent", "own"):
        parser.add_argument(name)
    parser.add_argument("--cycle", type=float, default=0.2)
    options = parser.parse_args()
    while not os.path.exists(options.agent):
        time.sleep(0.05)
    devices = Devices(options.agent, options.cycle)
    info = pb.MapperInfo(
        name=options.name,
        version="v1.13.0",
        api_version="v1.0.0",
        protocol=options.protocol,
        address=options.own.encode(),
        state="ok",
    )
    with grpc.insecure_channel(f"unix:{options.agent}") as channel:
        agent = stubs.DeviceManagerServiceStub(channel)
        try:
            request = pb.MapperRegisterRequest(withData=True, mapper=info)
            # the framework has a second; the test's machine may be slower than that, also between the file of a socket and who listens at it
            answer = agent.MapperRegister(request, timeout=60, wait_for_ready=True)
        except grpc.RpcError as exc:
            die(f"registration: {exc.code().name}: {exc.details()}")  # type: ignore[attr-defined]
    say(registered=[len(answer.modelList), len(answer.deviceList)])
    if answer.modelList and answer.deviceList:
        devices.models |= {f"{model.namespace}/{model.name}": model for model in answer.modelList}
        for device in answer.deviceList:
            devices.start(device)
    Path(options.own).unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    stubs.add_DeviceMapperServiceServicer_to_server(Service(devices), server)
    server.add_insecure_port(f"unix:{options.own}")
    server.start()
    devices.report()


if __name__ == "__main__":
    main()
