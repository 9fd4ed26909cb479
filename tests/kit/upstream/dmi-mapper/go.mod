// A mapper over DMI on the gRPC and protobuf of Go: KubeEdge's own modules are not among those that can be had here.
module kubeedge.test/dmi-mapper

go 1.26.0

require (
	github.com/bufbuild/protocompile v0.14.1
	github.com/simonvetter/modbus v1.6.4
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/goburrow/serial v0.1.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sync v0.23.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)
