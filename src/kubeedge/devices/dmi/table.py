"""Field numbers of DMI v1beta1. Names within a push method are those of the Device, whose JSON has them. Pure."""

from __future__ import annotations

TABLE = """
MapperRegisterRequest
  1 withData bool
  2 mapper *MapperInfo
MapperInfo
  1 name str
  2 version str
  3 api_version str
  4 protocol str
  5 address raw
  6 state str
MapperRegisterResponse
  1 modelList [DeviceModel]
  2 deviceList [Device]
DeviceModel
  1 name str
  2 spec *DeviceModelSpec
  3 namespace str
DeviceModelSpec
  1 properties [ModelProperty]
ModelProperty
  1 name str
  2 description str
  3 type str
  4 accessMode str
  5 minimum str
  6 maximum str
  7 unit str
Device
  1 name str
  2 spec *DeviceSpec
  3 status *DeviceStatus
  4 namespace str
DeviceSpec
  1 deviceModelReference str
  2 protocol *ProtocolConfig
  3 properties [DeviceProperty]
  4 methods [DeviceMethod]
DeviceMethod
  1 name str
  2 description str
  3 propertyNames [str]
DeviceProperty
  1 name str
  2 desired *TwinProperty
  3 visitors *VisitorConfig
  4 reportCycle int
  5 collectCycle int
  6 reportToCloud bool
  7 pushMethod PushMethod
ProtocolConfig
  1 protocolName str
  2 configData *CustomizedValue
VisitorConfig
  1 protocolName str
  2 configData *CustomizedValue
CustomizedValue
  1 data {Any}
Any
  1 type_url str
  2 value raw
PushMethod
  1 http HttpMethod
  2 mqtt MqttMethod
  3 dbMethod DbMethod
  4 otel OtelMethod
  5 anomalyDetection CustomizedValue
HttpMethod
  1 hostName str
  2 port int
  3 requestPath str
  4 timeout int
MqttMethod
  1 address str
  2 topic str
  3 qos int
  4 retained bool
OtelMethod
  1 endpointURL str
DbMethod
  1 influxdb2 InfluxMethod
  2 redis RedisMethod
  3 TDEngine TdEngineMethod
  4 mysql MySqlMethod
InfluxMethod
  1 influxdb2ClientConfig InfluxClient
  2 influxdb2DataConfig InfluxData
InfluxClient
  1 url str
  2 org str
  3 bucket str
InfluxData
  1 measurement str
  2 tag {str}
  3 fieldKey str
RedisMethod
  1 redisClientConfig RedisClient
RedisClient
  1 addr str
  2 db int
  3 poolsize int
  4 minIdleConns int
TdEngineMethod
  1 TDEngineClientConfig TdEngineClient
TdEngineClient
  1 addr str
  2 dbName str
MySqlMethod
  1 mysqlClientConfig MySqlClient
MySqlClient
  1 addr str
  2 database str
  3 userName str
DeviceStatus
  1 twins [Twin]
  2 reportToCloud bool
  3 reportCycle int
Twin
  1 propertyName str
  2 observedDesired *TwinProperty
  3 reported *TwinProperty
TwinProperty
  1 value str
  2 metadata {str}
ReportDeviceStatusRequest
  1 deviceName str
  2 reportedDevice *DeviceStatus
  3 deviceNamespace str
ReportDeviceStatesRequest
  1 deviceName str
  2 deviceNamespace str
  3 state str
RegisterDeviceRequest
  1 device *Device
UpdateDeviceRequest
  1 device *Device
RemoveDeviceRequest
  1 deviceName str
  2 deviceNamespace str
CreateDeviceModelRequest
  1 model *DeviceModel
UpdateDeviceModelRequest
  1 model *DeviceModel
RemoveDeviceModelRequest
  1 modelName str
  2 modelNamespace str
"""
