"""The fields of the main kinds, as text: text is small, and is parsed when it is first used (schema.py).

    Type
      field  type  [flags]

type:  str int (32 bits) long (64) num bool time any, quantity, intorstr; map (string to string), {T} (string to T), [T] (list of T), or a
       Type of this table.
flags: key=F   a patch merges this list's items by their field F (x-kubernetes-patch-merge-key)
       set     a patch merges this list of plain values as a set
       retain  a patch may say which of the keys stay ($retainKeys)
"""

from __future__ import annotations

TABLE = """
ObjectMeta
  name str
  generateName str
  namespace str
  selfLink str
  uid str
  resourceVersion str
  generation long
  creationTimestamp time
  deletionTimestamp time
  deletionGracePeriodSeconds long
  labels map
  annotations map
  ownerReferences [OwnerReference] key=uid
  finalizers [str] set
  managedFields any
OwnerReference
  apiVersion str
  kind str
  name str
  uid str
  controller bool
  blockOwnerDeletion bool
Pod
  apiVersion str
  kind str
  metadata ObjectMeta
  spec PodSpec
  status PodStatus
PodTemplate
  metadata ObjectMeta
  spec PodSpec
PodSpec
  volumes [Volume] key=name retain
  initContainers [Container] key=name
  containers [Container] key=name
  ephemeralContainers [Container] key=name
  restartPolicy str
  terminationGracePeriodSeconds long
  activeDeadlineSeconds long
  dnsPolicy str
  nodeSelector map
  serviceAccountName str
  serviceAccount str
  automountServiceAccountToken bool
  nodeName str
  hostNetwork bool
  hostPID bool
  hostIPC bool
  hostUsers bool
  shareProcessNamespace bool
  securityContext PodSecurityContext
  imagePullSecrets [LocalRef] key=name
  hostname str
  subdomain str
  setHostnameAsFQDN bool
  hostnameOverride str
  affinity Affinity
  schedulerName str
  tolerations [Toleration]
  hostAliases [HostAlias] key=ip
  priorityClassName str
  priority int
  preemptionPolicy str
  dnsConfig any
  readinessGates [ReadinessGate]
  runtimeClassName str
  enableServiceLinks bool
  overhead {quantity}
  topologySpreadConstraints [TopologySpread] key=topologyKey
  os any
  schedulingGates [LocalRef] key=name
  resourceClaims any
  resources ResourceRequirements
  schedulingGroup any
  workloadRef any
  evictionResponders any
ReadinessGate
  conditionType str
LocalRef
  name str
HostAlias
  ip str
  hostnames [str]
Toleration
  key str
  operator str
  value str
  effect str
  tolerationSeconds long
TopologySpread
  maxSkew int
  topologyKey str
  whenUnsatisfiable str
  labelSelector LabelSelector
  minDomains int
  nodeAffinityPolicy str
  nodeTaintsPolicy str
  matchLabelKeys [str]
LabelSelector
  matchLabels map
  matchExpressions [Expression]
Expression
  key str
  operator str
  values [str]
Affinity
  nodeAffinity NodeAffinity
  podAffinity any
  podAntiAffinity any
NodeAffinity
  requiredDuringSchedulingIgnoredDuringExecution NodeSelector
  preferredDuringSchedulingIgnoredDuringExecution [PreferredTerm]
PreferredTerm
  weight int
  preference NodeSelectorTerm
NodeSelector
  nodeSelectorTerms [NodeSelectorTerm]
NodeSelectorTerm
  matchExpressions [Expression]
  matchFields [Expression]
PodSecurityContext
  seLinuxOptions any
  windowsOptions any
  runAsUser long
  runAsGroup long
  runAsNonRoot bool
  supplementalGroups [long]
  supplementalGroupsPolicy str
  fsGroup long
  sysctls [Sysctl]
  fsGroupChangePolicy str
  seccompProfile any
  appArmorProfile any
  seLinuxChangePolicy str
Sysctl
  name str
  value str
Container
  name str
  image str
  command [str]
  args [str]
  workingDir str
  ports [ContainerPort] key=containerPort
  envFrom [EnvFrom]
  env [EnvVar] key=name
  resources ResourceRequirements
  resizePolicy [ResizePolicy]
  restartPolicy str
  restartPolicyRules [RestartRule]
  volumeMounts [VolumeMount] key=mountPath
  volumeDevices any
  livenessProbe Probe
  readinessProbe Probe
  startupProbe Probe
  lifecycle Lifecycle
  terminationMessagePath str
  terminationMessagePolicy str
  imagePullPolicy str
  securityContext SecurityContext
  stdin bool
  stdinOnce bool
  tty bool
  targetContainerName str
ResizePolicy
  resourceName str
  restartPolicy str
RestartRule
  action str
  exitCodes RestartExitCodes
RestartExitCodes
  operator str
  values [int]
ContainerPort
  name str
  hostPort int
  containerPort int
  protocol str
  hostIP str
EnvFrom
  prefix str
  configMapRef OptionalRef
  secretRef OptionalRef
OptionalRef
  name str
  optional bool
EnvVar
  name str
  value str
  valueFrom EnvSource
EnvSource
  fieldRef FieldRef
  resourceFieldRef ResourceFieldRef
  configMapKeyRef KeyRef
  secretKeyRef KeyRef
  fileKeyRef FileKeyRef
FileKeyRef
  volumeName str
  path str
  key str
  optional bool
FieldRef
  apiVersion str
  fieldPath str
ResourceFieldRef
  containerName str
  resource str
  divisor quantity
KeyRef
  name str
  key str
  optional bool
ResourceRequirements
  limits {quantity}
  requests {quantity}
  claims any
VolumeMount
  name str
  readOnly bool
  recursiveReadOnly str
  mountPath str
  subPath str
  mountPropagation str
  subPathExpr str
Probe
  exec ExecAction
  httpGet HTTPGet
  tcpSocket TCPSocket
  grpc GRPCAction
  initialDelaySeconds int
  timeoutSeconds int
  periodSeconds int
  successThreshold int
  failureThreshold int
  terminationGracePeriodSeconds long
ExecAction
  command [str]
HTTPGet
  path str
  port intorstr
  host str
  scheme str
  httpHeaders [HTTPHeader]
HTTPHeader
  name str
  value str
TCPSocket
  port intorstr
  host str
GRPCAction
  port int
  service str
Lifecycle
  postStart LifecycleHandler
  preStop LifecycleHandler
  stopSignal str
LifecycleHandler
  exec ExecAction
  httpGet HTTPGet
  tcpSocket TCPSocket
  sleep SleepAction
SleepAction
  seconds long
SecurityContext
  capabilities Capabilities
  privileged bool
  seLinuxOptions any
  windowsOptions any
  runAsUser long
  runAsGroup long
  runAsNonRoot bool
  readOnlyRootFilesystem bool
  allowPrivilegeEscalation bool
  procMount str
  seccompProfile any
  appArmorProfile any
Capabilities
  add [str]
  drop [str]
Volume
  name str
  hostPath HostPath
  emptyDir EmptyDir
  configMap ConfigMapVolume
  secret SecretVolume
  downwardAPI DownwardVolume
  projected ProjectedVolume
  persistentVolumeClaim any
  nfs any
  csi any
  ephemeral any
  image ImageVolume
  iscsi any
  rbd any
  cephfs any
  glusterfs any
  fc any
  flexVolume any
  gitRepo any
  cinder any
  flocker any
  quobyte any
  azureFile any
  azureDisk any
  gcePersistentDisk any
  awsElasticBlockStore any
  vsphereVolume any
  photonPersistentDisk any
  portworxVolume any
  scaleIO any
  storageos any
ImageVolume
  reference str
  pullPolicy str
HostPath
  path str
  type str
EmptyDir
  medium str
  sizeLimit quantity
ConfigMapVolume
  name str
  items [KeyToPath]
  defaultMode int
  optional bool
SecretVolume
  secretName str
  items [KeyToPath]
  defaultMode int
  optional bool
KeyToPath
  key str
  path str
  mode int
DownwardVolume
  items [DownwardFile]
  defaultMode int
DownwardFile
  path str
  fieldRef FieldRef
  resourceFieldRef ResourceFieldRef
  mode int
ProjectedVolume
  sources [Projection]
  defaultMode int
Projection
  configMap ConfigMapVolume
  secret ProjectedSecret
  downwardAPI DownwardVolume
  serviceAccountToken any
  clusterTrustBundle any
  podCertificate any
ProjectedSecret
  name str
  items [KeyToPath]
  optional bool
PodStatus
  phase str
  conditions [Condition] key=type
  message str
  reason str
  nominatedNodeName str
  hostIP str
  hostIPs [PodIP]
  podIP str
  podIPs [PodIP] key=ip
  startTime time
  initContainerStatuses [ContainerStatus]
  containerStatuses [ContainerStatus]
  ephemeralContainerStatuses [ContainerStatus]
  qosClass str
  resize str
  resourceClaimStatuses any
  observedGeneration long
PodIP
  ip str
ContainerStatus
  name str
  state ContainerState
  lastState ContainerState
  ready bool
  started bool
  restartCount int
  image str
  imageID str
  containerID str
  allocatedResources {quantity}
  resources ResourceRequirements
  volumeMounts any
  user any
  allocatedResourcesStatus any
  stopSignal str
ContainerState
  waiting ContainerWaiting
  running ContainerRunning
  terminated ContainerTerminated
ContainerWaiting
  reason str
  message str
ContainerRunning
  startedAt time
ContainerTerminated
  exitCode int
  signal int
  reason str
  message str
  startedAt time
  finishedAt time
  containerID str
Condition
  type str
  status str
  reason str
  message str
  observedGeneration long
  lastProbeTime time
  lastHeartbeatTime time
  lastUpdateTime time
  lastTransitionTime time
Deployment
  apiVersion str
  kind str
  metadata ObjectMeta
  spec DeploymentSpec
  status WorkloadStatus
DeploymentSpec
  replicas int
  selector LabelSelector
  template PodTemplate
  strategy Strategy retain
  minReadySeconds int
  revisionHistoryLimit int
  paused bool
  progressDeadlineSeconds int
Strategy
  type str
  rollingUpdate RollingUpdate
RollingUpdate
  maxUnavailable intorstr
  maxSurge intorstr
WorkloadStatus
  observedGeneration long
  replicas int
  updatedReplicas int
  readyReplicas int
  availableReplicas int
  unavailableReplicas int
  fullyLabeledReplicas int
  terminatingReplicas int
  collisionCount int
  currentNumberScheduled int
  numberMisscheduled int
  desiredNumberScheduled int
  numberReady int
  updatedNumberScheduled int
  numberAvailable int
  numberUnavailable int
  conditions [Condition] key=type
ReplicaSet
  apiVersion str
  kind str
  metadata ObjectMeta
  spec ReplicaSetSpec
  status WorkloadStatus
ReplicaSetSpec
  replicas int
  minReadySeconds int
  selector LabelSelector
  template PodTemplate
DaemonSet
  apiVersion str
  kind str
  metadata ObjectMeta
  spec DaemonSetSpec
  status WorkloadStatus
DaemonSetSpec
  selector LabelSelector
  template PodTemplate
  updateStrategy Strategy
  minReadySeconds int
  revisionHistoryLimit int
Service
  apiVersion str
  kind str
  metadata ObjectMeta
  spec ServiceSpec
  status ServiceStatus
ServiceSpec
  ports [ServicePort] key=port
  selector map
  clusterIP str
  clusterIPs [str]
  type str
  externalIPs [str]
  sessionAffinity str
  sessionAffinityConfig any
  loadBalancerIP str
  loadBalancerSourceRanges [str]
  loadBalancerClass str
  allocateLoadBalancerNodePorts bool
  externalName str
  externalTrafficPolicy str
  internalTrafficPolicy str
  trafficDistribution str
  healthCheckNodePort int
  publishNotReadyAddresses bool
  ipFamilies [str]
  ipFamilyPolicy str
ServicePort
  name str
  protocol str
  appProtocol str
  port int
  targetPort intorstr
  nodePort int
ServiceStatus
  loadBalancer LoadBalancerStatus
  conditions [Condition] key=type
ConfigMap
  apiVersion str
  kind str
  metadata ObjectMeta
  immutable bool
  data map
  binaryData map
Secret
  apiVersion str
  kind str
  metadata ObjectMeta
  immutable bool
  data map
  stringData map
  type str
ServiceAccount
  apiVersion str
  kind str
  metadata ObjectMeta
  secrets [ObjectRef] key=name
  imagePullSecrets [LocalRef]
  automountServiceAccountToken bool
ObjectRef
  kind str
  namespace str
  name str
  uid str
  apiVersion str
  resourceVersion str
  fieldPath str
Namespace
  apiVersion str
  kind str
  metadata ObjectMeta
  spec NamespaceSpec
  status NamespaceStatus
NamespaceSpec
  finalizers [str]
NamespaceStatus
  phase str
  conditions [Condition] key=type
Node
  apiVersion str
  kind str
  metadata ObjectMeta
  spec NodeSpec
  status NodeStatus
NodeSpec
  podCIDR str
  podCIDRs [str] set
  providerID str
  unschedulable bool
  taints [Taint]
  configSource any
  externalID str
Taint
  key str
  value str
  effect str
  timeAdded time
NodeStatus
  capacity {quantity}
  allocatable {quantity}
  phase str
  conditions [Condition] key=type
  addresses [NodeAddress] key=type
  daemonEndpoints NodeDaemonEndpoints
  nodeInfo NodeSystemInfo
  images [ContainerImage]
  volumesInUse [str]
  volumesAttached any
  config any
  runtimeHandlers any
  features any
NodeDaemonEndpoints
  kubeletEndpoint DaemonEndpoint
DaemonEndpoint
  Port int
NodeSystemInfo
  machineID str
  systemUUID str
  bootID str
  kernelVersion str
  osImage str
  containerRuntimeVersion str
  kubeletVersion str
  kubeProxyVersion str
  operatingSystem str
  architecture str
  swap any
ContainerImage
  names [str]
  sizeBytes long
NodeAddress
  type str
  address str
Endpoints
  apiVersion str
  kind str
  metadata ObjectMeta
  subsets [EndpointSubset]
EndpointSubset
  addresses [EndpointAddress]
  notReadyAddresses [EndpointAddress]
  ports [EndpointPort]
EndpointAddress
  ip str
  hostname str
  nodeName str
  targetRef ObjectRef
EndpointPort
  name str
  port int
  protocol str
  appProtocol str
LoadBalancerStatus
  ingress [LoadBalancerIngress]
LoadBalancerIngress
  ip str
  hostname str
  ipMode str
  ports any
EndpointSlice
  apiVersion str
  kind str
  metadata ObjectMeta
  addressType str
  endpoints [Endpoint]
  ports [EndpointPort]
Endpoint
  addresses [str]
  conditions EndpointConditions
  hostname str
  targetRef ObjectRef
  deprecatedTopology map
  nodeName str
  zone str
  hints any
EndpointConditions
  ready bool
  serving bool
  terminating bool
Event
  apiVersion str
  kind str
  metadata ObjectMeta
  involvedObject ObjectRef
  reason str
  message str
  source EventSource
  firstTimestamp time
  lastTimestamp time
  count int
  type str
  eventTime time
  series EventSeries
  action str
  related ObjectRef
  reportingComponent str
  reportingInstance str
EventSource
  component str
  host str
EventSeries
  count int
  lastObservedTime time
NetworkPolicy
  apiVersion str
  kind str
  metadata ObjectMeta
  spec NetworkPolicySpec
NetworkPolicySpec
  podSelector LabelSelector
  policyTypes [str]
  ingress [NetworkPolicyIngressRule]
  egress [NetworkPolicyEgressRule]
NetworkPolicyIngressRule
  from [NetworkPolicyPeer]
  ports [NetworkPolicyPort]
NetworkPolicyEgressRule
  to [NetworkPolicyPeer]
  ports [NetworkPolicyPort]
NetworkPolicyPeer
  podSelector LabelSelector
  namespaceSelector LabelSelector
  ipBlock IPBlock
IPBlock
  cidr str
  except [str]
NetworkPolicyPort
  protocol str
  port intorstr
  endPort int
Lease
  apiVersion str
  kind str
  metadata ObjectMeta
  spec LeaseSpec
LeaseSpec
  holderIdentity str
  leaseDurationSeconds int
  acquireTime time
  renewTime time
  leaseTransitions int
  strategy str
  preferredHolder str
Device
  apiVersion str
  kind str
  metadata ObjectMeta
  spec DeviceSpec
  status DeviceStatus
DeviceSpec
  deviceModelRef DeviceModelRef
  nodeName str
  properties [DeviceProperty]
  protocol DeviceProtocol
  methods [DeviceMethod]
  stateReport DeviceStateReport
DeviceModelRef
  name str
DeviceProtocol
  protocolName str
  configData any
DeviceProperty
  name str
  desired TwinProperty
  visitors DeviceProtocol
  reportCycle long
  collectCycle long
  reportToCloud bool
  pushMethod any
TwinProperty
  value str
  metadata map
DeviceMethod
  name str
  description str
  propertyNames [str]
DeviceStateReport
  reportToCloud bool
  reportCycle long
DeviceStatus
  conditions [DeviceCondition]
  twins [DeviceTwin]
  state str
  lastOnlineTime time
  observedGeneration long
  reportToCloud bool
  reportCycle long
DeviceTwin
  propertyName str
  reported TwinProperty
  observedDesired TwinProperty
DeviceCondition
  type str
  status str
  reason str
  message str
  observedGeneration long
  lastTransitionTime time
DeviceModel
  apiVersion str
  kind str
  metadata ObjectMeta
  spec DeviceModelSpec
DeviceModelSpec
  properties [DeviceModelProperty]
  protocol str
  protocolConfigData any
DeviceModelProperty
  name str
  description str
  type str
  accessMode str
  minimum str
  maximum str
  unit str
  visitors DeviceProtocol
DeviceV1alpha2
  apiVersion str
  kind str
  metadata ObjectMeta
  spec DeviceV1alpha2Spec
  status DeviceV1alpha2Status
DeviceV1alpha2Spec
  deviceModelRef DeviceModelRef
  protocol ProtocolV1alpha2
  propertyVisitors [PropertyVisitor]
  data DeviceData
  nodeSelector NodeSelector
DeviceV1alpha2Status
  twins [TwinV1alpha2]
TwinV1alpha2
  propertyName str
  desired TwinProperty
  reported TwinProperty
ProtocolV1alpha2
  opcua ProtocolOpcua
  modbus ProtocolModbus
  bluetooth ProtocolBluetooth
  common ProtocolCommon
  customizedProtocol DeviceProtocol
ProtocolOpcua
  url str
  userName str
  password str
  securityPolicy str
  securityMode str
  certificate str
  privateKey str
  timeout long
ProtocolModbus
  slaveID long
ProtocolBluetooth
  macAddress str
ProtocolCommon
  com ProtocolSerial
  tcp ProtocolTcp
  commType str
  reconnTimeout long
  reconnRetryTimes long
  collectTimeout long
  collectRetryTimes long
  collectType str
  customizedValues any
ProtocolSerial
  serialPort str
  baudRate long
  dataBits long
  parity str
  stopBits long
ProtocolTcp
  ip str
  port long
PropertyVisitor
  propertyName str
  reportCycle long
  collectCycle long
  customizedValues any
  opcua VisitorOpcua
  modbus VisitorModbus
  bluetooth VisitorBluetooth
  customizedProtocol DeviceProtocol
VisitorOpcua
  nodeID str
  browseName str
VisitorModbus
  register str
  offset long
  limit long
  scale num
  isSwap bool
  isRegisterSwap bool
VisitorBluetooth
  characteristicUUID str
  dataWrite map
  dataConverter BluetoothConverter
BluetoothConverter
  startIndex long
  endIndex long
  shiftLeft long
  shiftRight long
  orderOfOperations [BluetoothOperation]
BluetoothOperation
  operationType str
  operationValue num
DeviceData
  dataProperties [DeviceDataProperty]
  dataTopic str
DeviceDataProperty
  propertyName str
  metadata map
DeviceModelV1alpha2
  apiVersion str
  kind str
  metadata ObjectMeta
  spec DeviceModelV1alpha2Spec
DeviceModelV1alpha2Spec
  protocol str
  properties [ModelPropertyV1alpha2]
ModelPropertyV1alpha2
  name str
  description str
  type PropertyTypeV1alpha2
PropertyTypeV1alpha2
  int IntegerTypeV1alpha2
  float NumberTypeV1alpha2
  double NumberTypeV1alpha2
  string TextTypeV1alpha2
  boolean BooleanTypeV1alpha2
  bytes BytesTypeV1alpha2
IntegerTypeV1alpha2
  accessMode str
  defaultValue long
  minimum long
  maximum long
  unit str
NumberTypeV1alpha2
  accessMode str
  defaultValue num
  minimum num
  maximum num
  unit str
TextTypeV1alpha2
  accessMode str
  defaultValue str
  unit str
BooleanTypeV1alpha2
  accessMode str
  defaultValue bool
  unit str
BytesTypeV1alpha2
  accessMode str
  unit str
Rule
  apiVersion str
  kind str
  metadata ObjectMeta
  spec RuleSpec
  status RuleStatus
RuleSpec
  source str
  sourceResource map
  target str
  targetResource map
RuleStatus
  successMessages long
  failMessages long
  errors [str]
RuleEndpoint
  apiVersion str
  kind str
  metadata ObjectMeta
  spec RuleEndpointSpec
RuleEndpointSpec
  ruleEndpointType str
  properties map
GatewayClass
  apiVersion str
  kind str
  metadata ObjectMeta
  spec GatewayClassSpec
  status GatewayClassStatus
GatewayClassSpec
  controllerName str
  parametersRef any
  description str
Gateway
  apiVersion str
  kind str
  metadata ObjectMeta
  spec GatewaySpec
  status GatewayStatus
GatewaySpec
  gatewayClassName str
  listeners [GatewayListener]
  addresses any
  infrastructure any
  allowedListeners any
  tls any
  defaultScope str
GatewayListener
  name str
  hostname str
  port int
  protocol str
  tls GatewayListenerTLS
  allowedRoutes GatewayAllowedRoutes
GatewayListenerTLS
  mode str
  certificateRefs [GatewayObjectReference]
  frontendValidation any
  options map
GatewayAllowedRoutes
  namespaces GatewayRouteNamespaces
  kinds [GatewayRouteKind]
GatewayRouteNamespaces
  from str
  selector LabelSelector
GatewayRouteKind
  group str
  kind str
GatewayObjectReference
  group str
  kind str
  namespace str
  name str
HTTPRoute
  apiVersion str
  kind str
  metadata ObjectMeta
  spec HTTPRouteSpec
  status HTTPRouteStatus
HTTPRouteSpec
  parentRefs [GatewayParentReference]
  useDefaultGateways str
  hostnames [str]
  rules [HTTPRouteRule]
GatewayParentReference
  group str
  kind str
  namespace str
  name str
  sectionName str
  port int
HTTPRouteRule
  name str
  matches [HTTPRouteMatch]
  filters [HTTPRouteFilter]
  backendRefs [HTTPBackendRef]
  timeouts HTTPRouteTimeouts
  retry any
  sessionPersistence any
HTTPRouteMatch
  path HTTPPathMatch
  headers [HTTPValueMatch]
  queryParams [HTTPValueMatch]
  method str
HTTPPathMatch
  type str
  value str
HTTPValueMatch
  type str
  name str
  value str
HTTPRouteFilter
  type str
  requestHeaderModifier HTTPHeaderFilter
  responseHeaderModifier HTTPHeaderFilter
  requestMirror HTTPMirrorFilter
  requestRedirect HTTPRedirectFilter
  urlRewrite HTTPRewriteFilter
  cors any
  externalAuth any
  extensionRef any
HTTPHeaderFilter
  set [HTTPHeaderValue]
  add [HTTPHeaderValue]
  remove [str]
HTTPHeaderValue
  name str
  value str
HTTPMirrorFilter
  backendRef HTTPBackendRef
  percent int
  fraction HTTPFraction
HTTPFraction
  numerator int
  denominator int
HTTPRedirectFilter
  scheme str
  hostname str
  path HTTPPathModifier
  port int
  statusCode int
HTTPRewriteFilter
  hostname str
  path HTTPPathModifier
HTTPPathModifier
  type str
  replaceFullPath str
  replacePrefixMatch str
HTTPBackendRef
  group str
  kind str
  namespace str
  name str
  port int
  weight int
  filters [HTTPRouteFilter]
HTTPRouteTimeouts
  request str
  backendRequest str
TLSRoute
  apiVersion str
  kind str
  metadata ObjectMeta
  spec TLSRouteSpec
  status HTTPRouteStatus
TLSRouteSpec
  parentRefs [GatewayParentReference]
  useDefaultGateways str
  hostnames [str]
  rules [StreamRouteRule]
TCPRoute
  apiVersion str
  kind str
  metadata ObjectMeta
  spec TCPRouteSpec
  status HTTPRouteStatus
TCPRouteSpec
  parentRefs [GatewayParentReference]
  useDefaultGateways str
  rules [StreamRouteRule]
StreamRouteRule
  name str
  backendRefs [HTTPBackendRef]
ReferenceGrant
  apiVersion str
  kind str
  metadata ObjectMeta
  spec ReferenceGrantSpec
ReferenceGrantSpec
  from [ReferenceGrantFrom]
  to [ReferenceGrantTo]
ReferenceGrantFrom
  group str
  kind str
  namespace str
ReferenceGrantTo
  group str
  kind str
  name str
IngressClass
  apiVersion str
  kind str
  metadata ObjectMeta
  spec IngressClassSpec
IngressClassSpec
  controller str
  parameters any
Ingress
  apiVersion str
  kind str
  metadata ObjectMeta
  spec IngressSpec
  status IngressStatus
IngressSpec
  ingressClassName str
  defaultBackend IngressBackend
  tls [IngressTLS]
  rules [IngressRule]
IngressBackend
  service IngressServiceBackend
  resource any
IngressServiceBackend
  name str
  port IngressServicePort
IngressServicePort
  name str
  number int
IngressTLS
  hosts [str]
  secretName str
IngressRule
  host str
  http IngressHTTP
IngressHTTP
  paths [IngressPath]
IngressPath
  path str
  pathType str
  backend IngressBackend
IngressStatus
  loadBalancer IngressLoadBalancer
IngressLoadBalancer
  ingress [IngressAddress]
IngressAddress
  hostname str
  ip str
  ports any
GatewayClassStatus
  conditions [GatewayCondition]
  supportedFeatures any
GatewayStatus
  addresses [GatewayAddress]
  conditions [GatewayCondition]
  listeners [GatewayListenerStatus]
  attachedListenerSets any
GatewayAddress
  type str
  value str
GatewayListenerStatus
  name str
  supportedKinds [GatewayRouteKind]
  attachedRoutes int
  conditions [GatewayCondition]
HTTPRouteStatus
  parents [HTTPRouteParentStatus]
HTTPRouteParentStatus
  parentRef GatewayParentReference
  controllerName str
  conditions [GatewayCondition]
GatewayCondition
  type str
  status str
  observedGeneration long
  lastTransitionTime time
  reason str
  message str
"""
