// A mapper over DMI v1beta1 in Go, on the gRPC, protobuf and Modbus that programs in Go use. It behaves as KubeEdge's mapper framework is known to:
//
//	dmi-mapper -proto dmi.proto -agent SOCKET -own SOCKET [-http ADDRESS] [-name NAME] [-protocol PROTOCOL]
//
// It waits for the agent's socket, registers once in its life, within a second or it ends, starts its devices, and only then serves its own
// socket. A device starts by writing each desired value that is not read-only; a property whose value cannot be written is left alone from then on.
// A property is read in its cycle and reported on a connection of its own; so is the state of a device. RegisterDevice does nothing where the device
// is known, UpdateDevice starts it anew. It panics at a field that is missing and ends at GetDevice. Methods are requests of HTTP. What it is asked is a
// line of JSON on stdout.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/simonvetter/modbus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

type object = map[string]any

var (
	protoFile = flag.String("proto", "/dmi.proto", "the file that describes DMI")
	agent     = flag.String("agent", "/etc/kubeedge/dmi.sock", "the agent's socket")
	own       = flag.String("own", "/etc/kubeedge/mapper.sock", "the socket to serve")
	address   = flag.String("http", "127.0.0.1:7777", "where methods are asked for")
	name      = flag.String("name", "go-mapper", "of this mapper")
	protocol  = flag.String("protocol", "gomodbus", "of its devices")
	file      protoreflect.FileDescriptor
)

func say(line object) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func message(kind string) *dynamicpb.Message {
	return dynamicpb.NewMessage(file.Messages().ByName(protoreflect.Name(kind)))
}

func fromJSON(kind string, value object) *dynamicpb.Message {
	text, err := json.Marshal(value)
	made := message(kind)
	if err == nil {
		err = protojson.Unmarshal(text, made)
	}
	if err != nil {
		panic(err)
	}
	return made
}

func toJSON(from *dynamicpb.Message) object {
	text, err := protojson.Marshal(from)
	found := object{}
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil {
		panic(err)
	}
	return found
}

// inner is for what must be there: a Go program would follow a nil pointer.
func inner(from object, path ...string) object {
	for _, key := range path {
		next, ok := from[key].(object)
		if !ok {
			panic(fmt.Sprintf("nil pointer: %s of %v", key, from))
		}
		from = next
	}
	return from
}

func text(from object, key string) string {
	found, _ := from[key].(string)
	return found
}

func list(from object, key string) []object {
	var found []object
	all, _ := from[key].([]any)
	for _, one := range all {
		found = append(found, one.(object))
	}
	return found
}

// number is a value of a configData, which is a wrapper in an Any.
func number(from object, key string) int {
	wrapped, _ := from[key].(object)
	found, err := strconv.Atoi(fmt.Sprint(wrapped["value"]))
	if err != nil {
		panic(fmt.Sprintf("%s: %v", key, err))
	}
	return found
}

func identity(from object) string { return text(from, "namespace") + "/" + text(from, "name") }

func modelOf(device object) string {
	return text(device, "namespace") + "/" + text(inner(device, "spec"), "deviceModelReference")
}

// call is one call of the agent, on a connection of its own, which waits for the agent as long as it takes; the call itself has a second.
func call(method string, request *dynamicpb.Message, answer string) (*dynamicpb.Message, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", *agent)
	}
	// Dial and WithBlock, which gRPC advises against: the target is then the bare path, and so is :authority
	connection, err := grpc.Dial(*agent, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithBlock(), grpc.WithContextDialer(dial)) //nolint:staticcheck
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	said := message(answer)
	return said, connection.Invoke(ctx, "/v1beta1.DeviceManagerService/"+method, request, said)
}

type property struct {
	name           string
	offset         uint16
	desired        string
	cycle          time.Duration
	reportsToCloud bool
}

type running struct {
	device     object
	mutex      sync.Mutex
	client     *modbus.ModbusClient
	open       bool
	cancel     context.CancelFunc
	properties []property
}

type mapper struct {
	mutex   sync.Mutex
	models  map[string]object
	devices map[string]*running
}

// with is one exchange with the device; a connection that failed is made anew by the next one.
func (r *running) with(exchange func(*modbus.ModbusClient) error) error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !r.open {
		if err := r.client.Open(); err != nil {
			return err
		}
		r.open = true
	}
	err := exchange(r.client)
	if err != nil {
		r.client.Close()
		r.open = false
	}
	return err
}

func (r *running) write(offset uint16, value string) error {
	typed, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return err
	}
	return r.with(func(c *modbus.ModbusClient) error { return c.WriteRegister(offset, uint16(typed)) })
}

// start is called with the mapper's lock.
func (m *mapper) start(device object) error {
	key := identity(device)
	if old, ok := m.devices[key]; ok {
		old.cancel()
	}
	model, ok := m.models[modelOf(device)]
	if !ok {
		return fmt.Errorf("no model %s", modelOf(device))
	}
	access := map[string]string{}
	for _, one := range list(inner(model, "spec"), "properties") {
		access[text(one, "name")] = text(one, "accessMode")
	}
	config := inner(device, "spec", "protocol", "configData", "data")
	host := text(inner(config, "host"), "value")
	client, err := modbus.NewClient(&modbus.ClientConfiguration{URL: fmt.Sprintf("tcp://%s:%d", host, number(config, "port")), Timeout: time.Second})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	made := &running{device: device, client: client, cancel: cancel}
	m.devices[key] = made
	go func() {
		<-ctx.Done()
		made.mutex.Lock()
		defer made.mutex.Unlock()
		if made.open {
			client.Close()
		}
	}()
	for _, one := range list(inner(device, "spec"), "properties") {
		mode, ok := access[text(one, "name")]
		if !ok {
			panic(fmt.Sprintf("%s: the model lacks %s", key, text(one, "name")))
		}
		cycle, _ := strconv.Atoi(text(one, "collectCycle"))
		if cycle == 0 {
			cycle = 1000
		}
		visitor := inner(one, "visitors", "configData", "data")
		reports, _ := one["reportToCloud"].(bool)
		made.properties = append(made.properties, property{
			text(one, "name"), uint16(number(visitor, "offset")), text(inner(one, "desired"), "value"), time.Duration(cycle) * time.Millisecond, reports,
		})
		last := made.properties[len(made.properties)-1]
		go made.run(ctx, key, last, mode != "ReadOnly")
	}
	go made.states(ctx)
	return nil
}

func (r *running) run(ctx context.Context, key string, of property, writes bool) {
	if writes {
		err := r.write(of.offset, of.desired)
		say(object{"wrote": []string{key, of.name, of.desired}, "error": fmt.Sprint(err)})
		if err != nil {
			return
		}
	}
	for {
		var value uint16
		err := r.with(func(c *modbus.ModbusClient) (err error) {
			value, err = c.ReadRegister(of.offset, modbus.HOLDING_REGISTER)
			return
		})
		if err == nil && of.reportsToCloud {
			twin := object{
				"propertyName":    of.name,
				"observedDesired": object{"value": of.desired, "metadata": object{"timestamp": "", "type": "int"}},
				"reported":        object{"value": strconv.Itoa(int(value)), "metadata": object{"timestamp": "", "type": "int"}},
			}
			report := object{"deviceName": text(r.device, "name"), "deviceNamespace": text(r.device, "namespace"), "reportedDevice": object{"twins": []object{twin}}}
			if _, err := call("ReportDeviceStatus", fromJSON("ReportDeviceStatusRequest", report), "Empty"); err != nil {
				say(object{"report": key, "error": err.Error()})
			}
		}
		if !wait(ctx, of.cycle) {
			return
		}
	}
}

func (r *running) states(ctx context.Context) {
	status, _ := r.device["status"].(object)
	if asked, _ := status["reportToCloud"].(bool); !asked {
		return
	}
	cycle, _ := strconv.Atoi(text(status, "reportCycle"))
	for wait(ctx, time.Duration(cycle)*time.Millisecond) {
		state := "online"
		if r.with(func(c *modbus.ModbusClient) error { _, err := c.ReadRegister(0, modbus.HOLDING_REGISTER); return err }) != nil {
			state = "offline"
		}
		report := object{"deviceName": text(r.device, "name"), "deviceNamespace": text(r.device, "namespace"), "state": state}
		if _, err := call("ReportDeviceStates", fromJSON("ReportDeviceStatesRequest", report), "Empty"); err != nil {
			say(object{"state": identity(r.device), "error": err.Error()})
		}
	}
}

func wait(ctx context.Context, cycle time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(cycle):
		return true
	}
}

// asked is one call of the agent's; the result is an Empty or a DeviceAnswer.
func (m *mapper) asked(method string, request object) (object, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	switch method {
	case "RegisterDevice", "UpdateDevice":
		device := inner(request, "device")
		_, known := m.devices[identity(device)]
		say(object{"call": method, "device": identity(device), "known": known})
		if method == "RegisterDevice" && known {
			return object{"name": text(device, "name")}, nil
		}
		if err := m.start(device); err != nil {
			return nil, err
		}
		if method == "UpdateDevice" {
			return object{}, nil
		}
		return object{"name": text(device, "name")}, nil
	case "RemoveDevice":
		say(object{"call": method, "device": identity(request)})
		old, ok := m.devices[identity(request)]
		if !ok {
			return nil, errors.New("no such device")
		}
		old.cancel()
		delete(m.devices, identity(request))
		return object{}, nil
	case "CreateDeviceModel", "UpdateDeviceModel":
		model := inner(request, "model")
		say(object{"call": method, "model": identity(model)})
		if _, ok := m.models[identity(model)]; !ok && method == "UpdateDeviceModel" {
			return nil, errors.New("no such model")
		}
		m.models[identity(model)] = model
		if method == "UpdateDeviceModel" {
			return object{}, nil
		}
		return object{"name": text(model, "name")}, nil
	case "RemoveDeviceModel":
		say(object{"call": method, "model": identity(request)})
		delete(m.models, identity(request))
		return object{}, nil
	}
	panic(method + " was called")
}

func (m *mapper) serve() error {
	os.Remove(*own)
	listener, err := net.Listen("unix", *own)
	if err != nil {
		return err
	}
	service := file.Services().ByName("DeviceMapperService")
	described := grpc.ServiceDesc{ServiceName: string(service.FullName()), HandlerType: (*any)(nil)}
	for n := range service.Methods().Len() {
		method := service.Methods().Get(n)
		described.Methods = append(described.Methods, grpc.MethodDesc{
			MethodName: string(method.Name()),
			Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				request := dynamicpb.NewMessage(method.Input())
				if err := decode(request); err != nil {
					return nil, err
				}
				answer, err := m.asked(string(method.Name()), toJSON(request))
				if err != nil {
					return nil, err
				}
				return fromJSON(string(method.Output().Name()), answer), nil
			},
		})
	}
	server := grpc.NewServer()
	server.RegisterService(&described, m)
	return server.Serve(listener)
}

// method is GET /api/v1/devicemethod/NAMESPACE/NAME/METHOD/PROPERTY/VALUE.
func (m *mapper) method(answer http.ResponseWriter, request *http.Request) {
	m.mutex.Lock()
	device, ok := m.devices[request.PathValue("namespace")+"/"+request.PathValue("name")]
	m.mutex.Unlock()
	err := errors.New("no such device, method or property")
	if ok {
		for _, one := range list(inner(device.device, "spec"), "methods") {
			names := fmt.Sprint(one["propertyNames"])
			for _, of := range device.properties {
				if text(one, "name") == request.PathValue("method") && of.name == request.PathValue("property") && strings.Contains(names, of.name) {
					err = device.write(of.offset, request.PathValue("value"))
				}
			}
		}
	}
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(answer, "done")
}

func main() {
	flag.Parse()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.Dir(*protoFile)}})}
	files, err := compiler.Compile(context.Background(), filepath.Base(*protoFile))
	if err != nil {
		log.Fatal(err)
	}
	file = files[0]
	info := object{"name": *name, "version": "v1.13.0", "apiVersion": "v1.0.0", "protocol": *protocol, "address": []byte(*own), "state": "ok"}
	answer, err := call("MapperRegister", fromJSON("MapperRegisterRequest", object{"withData": true, "mapper": info}), "MapperRegisterResponse")
	if err != nil {
		log.Fatal(err)
	}
	registered := toJSON(answer)
	models, devices := list(registered, "modelList"), list(registered, "deviceList")
	say(object{"registered": []int{len(models), len(devices)}})
	m := &mapper{models: map[string]object{}, devices: map[string]*running{}}
	m.mutex.Lock()
	if len(models) > 0 && len(devices) > 0 {
		for _, model := range models {
			m.models[identity(model)] = model
		}
		for _, device := range devices {
			if err := m.start(device); err != nil {
				log.Fatal(err)
			}
		}
	}
	m.mutex.Unlock()
	http.HandleFunc("GET /api/v1/devicemethod/{namespace}/{name}/{method}/{property}/{value}", m.method)
	go func() { log.Fatal(http.ListenAndServe(*address, nil)) }()
	log.Fatal(m.serve())
}
