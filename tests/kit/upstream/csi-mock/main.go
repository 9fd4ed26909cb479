// The mock CSI driver that Kubernetes tests its kubelet with, as a program that registers at a node: service and driver are upstream's. Added are
// what a kubelet's registrar does, real mounts, and faults on demand.
//
//	csi-mock -kubelet DIR -backing DIR -name NAME [-attach] [-expand]
//
// Each call is a line of JSON on standard output. While DIR/hang of the backing exists, calls to the node wait for it to go.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/driver"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/mock/service"
)

// mounter makes of each directory that the mock makes a bind mount of one that is kept for the volume.
type mounter struct {
	service.OSDirIO
	backing string
}

func (m mounter) Mkdir(path string) error {
	data := filepath.Join(m.backing, filepath.Base(filepath.Dir(path)))
	for _, directory := range []string{data, path} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	return syscall.Mount(data, path, "", syscall.MS_BIND, "")
}

func (m mounter) RemoveAll(path string) error {
	if err := syscall.Unmount(path, 0); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
		return err
	}
	return os.RemoveAll(path)
}

type registrar struct {
	registration.UnimplementedRegistrationServer
	name, endpoint string
	say            func(string, any, error)
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: "CSIPlugin", Name: r.name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	r.say("/registered", status, nil)
	return &registration.RegistrationStatusResponse{}, nil
}

func listen(path string) net.Listener {
	os.Remove(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		panic(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	return listener
}

func main() {
	kubelet := flag.String("kubelet", "/var/lib/kubelet", "directory of the kubelet")
	backing := flag.String("backing", "", "directory for what volumes hold")
	name := flag.String("name", "mock.csi.test", "name of the driver")
	attach := flag.Bool("attach", false, "volumes are attached first")
	expand := flag.Bool("expand", false, "volumes are expanded on the node")
	flag.Parse()

	var mutex sync.Mutex
	say := func(method string, request any, err error) {
		mutex.Lock()
		defer mutex.Unlock()
		line, _ := json.Marshal(map[string]any{"method": method, "request": request, "error": fmt.Sprint(err)})
		fmt.Println(string(line))
	}
	io := mounter{backing: *backing}
	mock := service.New(service.Config{
		DriverName: *name, DisableAttach: !*attach, NodeExpansionRequired: *expand, EnableTopology: true, IO: io,
	})
	endpoint := filepath.Join(*kubelet, "plugins", *name, "csi.sock")
	intercept := func(
		ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
	) (any, error) {
		for {
			if _, err := os.Stat(filepath.Join(*backing, "hang")); err != nil || ctx.Err() != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		// upstream's mock ends with a nil pointer for an inline volume: these are ours
		var answer any
		var err error
		publish, publishes := request.(*csi.NodePublishVolumeRequest)
		unpublish, unpublishes := request.(*csi.NodeUnpublishVolumeRequest)
		switch {
		case publishes && publish.VolumeContext["csi.storage.k8s.io/ephemeral"] == "true":
			answer, err = &csi.NodePublishVolumeResponse{}, io.Mkdir(publish.TargetPath)
		case unpublishes && len(unpublish.VolumeId) > 9:
			answer, err = &csi.NodeUnpublishVolumeResponse{}, io.RemoveAll(unpublish.TargetPath)
		default:
			answer, err = handle(ctx, request)
		}
		say(info.FullMethod, request, err)
		return answer, err
	}
	plugin := driver.NewCSIDriver(&driver.CSIDriverServers{Controller: mock, Identity: mock, Node: mock})
	if err := plugin.Start(listen(endpoint), intercept); err != nil {
		panic(err)
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, &registrar{name: *name, endpoint: endpoint, say: say})
	if err := server.Serve(listen(filepath.Join(*kubelet, "plugins_registry", *name+"-reg.sock"))); err != nil {
		panic(err)
	}
}
