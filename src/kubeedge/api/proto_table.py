"""Field numbers of the kinds in protobuf, generated from k8s.io/api v0.34.2 by tests/kit/proto_table.py: do not edit.

Type
  number  name (-: its fields are JSON's fields of this type)  kind; *: a zero is a value
"""

from __future__ import annotations

TABLE = """
Pod
  1 metadata ObjectMeta
  2 spec PodSpec
  3 status PodStatus
ObjectMeta
  1 name str
  2 generateName str
  3 namespace str
  4 selfLink str
  5 uid str
  6 resourceVersion str
  7 generation int
  8 creationTimestamp time
  9 deletionTimestamp *time
  10 deletionGracePeriodSeconds *int
  11 labels {str}
  12 annotations {str}
  13 ownerReferences [OwnerReference]
  14 finalizers [str]
  17 managedFields [ManagedFieldsEntry]
OwnerReference
  5 apiVersion *str
  1 kind *str
  3 name *str
  4 uid *str
  6 controller *bool
  7 blockOwnerDeletion *bool
ManagedFieldsEntry
  1 manager str
  2 operation str
  3 apiVersion str
  4 time *time
  6 fieldsType str
  7 fieldsV1 *json
  8 subresource str
PodSpec
  1 volumes [Volume]
  20 initContainers [Container]
  2 containers [Container]
  34 ephemeralContainers [EphemeralContainer]
  3 restartPolicy str
  4 terminationGracePeriodSeconds *int
  5 activeDeadlineSeconds *int
  6 dnsPolicy str
  7 nodeSelector {str}
  8 serviceAccountName str
  9 serviceAccount str
  21 automountServiceAccountToken *bool
  10 nodeName str
  11 hostNetwork bool
  12 hostPID bool
  13 hostIPC bool
  27 shareProcessNamespace *bool
  14 securityContext *PodSecurityContext
  15 imagePullSecrets [LocalObjectReference]
  16 hostname str
  17 subdomain str
  18 affinity *Affinity
  19 schedulerName str
  22 tolerations [Toleration]
  23 hostAliases [HostAlias]
  24 priorityClassName str
  25 priority *int
  26 dnsConfig *PodDNSConfig
  28 readinessGates [PodReadinessGate]
  29 runtimeClassName *str
  30 enableServiceLinks *bool
  31 preemptionPolicy *str
  32 overhead {quantity}
  33 topologySpreadConstraints [TopologySpreadConstraint]
  35 setHostnameAsFQDN *bool
  36 os *PodOS
  37 hostUsers *bool
  38 schedulingGates [PodSchedulingGate]
  39 resourceClaims [PodResourceClaim]
  40 resources *ResourceRequirements
  41 hostnameOverride *str
Volume
  1 name *str
  2 - VolumeSource
VolumeSource
  1 hostPath *HostPathVolumeSource
  2 emptyDir *EmptyDirVolumeSource
  3 gcePersistentDisk *GCEPersistentDiskVolumeSource
  4 awsElasticBlockStore *AWSElasticBlockStoreVolumeSource
  5 gitRepo *GitRepoVolumeSource
  6 secret *SecretVolumeSource
  7 nfs *NFSVolumeSource
  8 iscsi *ISCSIVolumeSource
  9 glusterfs *GlusterfsVolumeSource
  10 persistentVolumeClaim *PersistentVolumeClaimVolumeSource
  11 rbd *RBDVolumeSource
  12 flexVolume *FlexVolumeSource
  13 cinder *CinderVolumeSource
  14 cephfs *CephFSVolumeSource
  15 flocker *FlockerVolumeSource
  16 downwardAPI *DownwardAPIVolumeSource
  17 fc *FCVolumeSource
  18 azureFile *AzureFileVolumeSource
  19 configMap *ConfigMapVolumeSource
  20 vsphereVolume *VsphereVirtualDiskVolumeSource
  21 quobyte *QuobyteVolumeSource
  22 azureDisk *AzureDiskVolumeSource
  23 photonPersistentDisk *PhotonPersistentDiskVolumeSource
  26 projected *ProjectedVolumeSource
  24 portworxVolume *PortworxVolumeSource
  25 scaleIO *ScaleIOVolumeSource
  27 storageos *StorageOSVolumeSource
  28 csi *CSIVolumeSource
  29 ephemeral *EphemeralVolumeSource
  30 image *ImageVolumeSource
HostPathVolumeSource
  1 path *str
  2 type *str
EmptyDirVolumeSource
  1 medium str
  2 sizeLimit *quantity
GCEPersistentDiskVolumeSource
  1 pdName *str
  2 fsType str
  3 partition int
  4 readOnly bool
AWSElasticBlockStoreVolumeSource
  1 volumeID *str
  2 fsType str
  3 partition int
  4 readOnly bool
GitRepoVolumeSource
  1 repository *str
  2 revision str
  3 directory str
SecretVolumeSource
  1 secretName str
  2 items [KeyToPath]
  3 defaultMode *int
  4 optional *bool
KeyToPath
  1 key *str
  2 path *str
  3 mode *int
NFSVolumeSource
  1 server *str
  2 path *str
  3 readOnly bool
ISCSIVolumeSource
  1 targetPortal *str
  2 iqn *str
  3 lun *int
  4 iscsiInterface str
  5 fsType str
  6 readOnly bool
  7 portals [str]
  8 chapAuthDiscovery bool
  11 chapAuthSession bool
  10 secretRef *LocalObjectReference
  12 initiatorName *str
LocalObjectReference
  1 name str
GlusterfsVolumeSource
  1 endpoints *str
  2 path *str
  3 readOnly bool
PersistentVolumeClaimVolumeSource
  1 claimName *str
  2 readOnly bool
RBDVolumeSource
  1 monitors [str]
  2 image *str
  3 fsType str
  4 pool str
  5 user str
  6 keyring str
  7 secretRef *LocalObjectReference
  8 readOnly bool
FlexVolumeSource
  1 driver *str
  2 fsType str
  3 secretRef *LocalObjectReference
  4 readOnly bool
  5 options {str}
CinderVolumeSource
  1 volumeID *str
  2 fsType str
  3 readOnly bool
  4 secretRef *LocalObjectReference
CephFSVolumeSource
  1 monitors [str]
  2 path str
  3 user str
  4 secretFile str
  5 secretRef *LocalObjectReference
  6 readOnly bool
FlockerVolumeSource
  1 datasetName str
  2 datasetUUID str
DownwardAPIVolumeSource
  1 items [DownwardAPIVolumeFile]
  2 defaultMode *int
DownwardAPIVolumeFile
  1 path *str
  2 fieldRef *ObjectFieldSelector
  3 resourceFieldRef *ResourceFieldSelector
  4 mode *int
ObjectFieldSelector
  1 apiVersion str
  2 fieldPath *str
ResourceFieldSelector
  1 containerName str
  2 resource *str
  3 divisor quantity
FCVolumeSource
  1 targetWWNs [str]
  2 lun *int
  3 fsType str
  4 readOnly bool
  5 wwids [str]
AzureFileVolumeSource
  1 secretName *str
  2 shareName *str
  3 readOnly bool
ConfigMapVolumeSource
  1 - LocalObjectReference
  2 items [KeyToPath]
  3 defaultMode *int
  4 optional *bool
VsphereVirtualDiskVolumeSource
  1 volumePath *str
  2 fsType str
  3 storagePolicyName str
  4 storagePolicyID str
QuobyteVolumeSource
  1 registry *str
  2 volume *str
  3 readOnly bool
  4 user str
  5 group str
  6 tenant str
AzureDiskVolumeSource
  1 diskName *str
  2 diskURI *str
  3 cachingMode *str
  4 fsType *str
  5 readOnly *bool
  6 kind *str
PhotonPersistentDiskVolumeSource
  1 pdID *str
  2 fsType str
ProjectedVolumeSource
  1 sources [VolumeProjection]
  2 defaultMode *int
VolumeProjection
  1 secret *SecretProjection
  2 downwardAPI *DownwardAPIProjection
  3 configMap *ConfigMapProjection
  4 serviceAccountToken *ServiceAccountTokenProjection
  5 clusterTrustBundle *ClusterTrustBundleProjection
  6 podCertificate *PodCertificateProjection
SecretProjection
  1 - LocalObjectReference
  2 items [KeyToPath]
  4 optional *bool
DownwardAPIProjection
  1 items [DownwardAPIVolumeFile]
ConfigMapProjection
  1 - LocalObjectReference
  2 items [KeyToPath]
  4 optional *bool
ServiceAccountTokenProjection
  1 audience str
  2 expirationSeconds *int
  3 path *str
ClusterTrustBundleProjection
  1 name *str
  2 signerName *str
  3 labelSelector *LabelSelector
  5 optional *bool
  4 path *str
LabelSelector
  1 matchLabels {str}
  2 matchExpressions [LabelSelectorRequirement]
LabelSelectorRequirement
  1 key *str
  2 operator *str
  3 values [str]
PodCertificateProjection
  1 signerName str
  2 keyType str
  3 maxExpirationSeconds *int
  4 credentialBundlePath str
  5 keyPath str
  6 certificateChainPath str
PortworxVolumeSource
  1 volumeID *str
  2 fsType str
  3 readOnly bool
ScaleIOVolumeSource
  1 gateway *str
  2 system *str
  3 secretRef *LocalObjectReference
  4 sslEnabled bool
  5 protectionDomain str
  6 storagePool str
  7 storageMode str
  8 volumeName str
  9 fsType str
  10 readOnly bool
StorageOSVolumeSource
  1 volumeName str
  2 volumeNamespace str
  3 fsType str
  4 readOnly bool
  5 secretRef *LocalObjectReference
CSIVolumeSource
  1 driver *str
  2 readOnly *bool
  3 fsType *str
  4 volumeAttributes {str}
  5 nodePublishSecretRef *LocalObjectReference
EphemeralVolumeSource
  1 volumeClaimTemplate *PersistentVolumeClaimTemplate
PersistentVolumeClaimTemplate
  1 metadata ObjectMeta
  2 spec PersistentVolumeClaimSpec
PersistentVolumeClaimSpec
  1 accessModes [str]
  4 selector *LabelSelector
  2 resources VolumeResourceRequirements
  3 volumeName str
  5 storageClassName *str
  6 volumeMode *str
  7 dataSource *TypedLocalObjectReference
  8 dataSourceRef *TypedObjectReference
  9 volumeAttributesClassName *str
VolumeResourceRequirements
  1 limits {quantity}
  2 requests {quantity}
TypedLocalObjectReference
  1 apiGroup *str
  2 kind *str
  3 name *str
TypedObjectReference
  1 apiGroup *str
  2 kind *str
  3 name *str
  4 namespace *str
ImageVolumeSource
  1 reference str
  2 pullPolicy str
Container
  1 name *str
  2 image str
  3 command [str]
  4 args [str]
  5 workingDir str
  6 ports [ContainerPort]
  19 envFrom [EnvFromSource]
  7 env [EnvVar]
  8 resources ResourceRequirements
  23 resizePolicy [ContainerResizePolicy]
  24 restartPolicy *str
  25 restartPolicyRules [ContainerRestartRule]
  9 volumeMounts [VolumeMount]
  21 volumeDevices [VolumeDevice]
  10 livenessProbe *Probe
  11 readinessProbe *Probe
  22 startupProbe *Probe
  12 lifecycle *Lifecycle
  13 terminationMessagePath str
  20 terminationMessagePolicy str
  14 imagePullPolicy str
  15 securityContext *SecurityContext
  16 stdin bool
  17 stdinOnce bool
  18 tty bool
ContainerPort
  1 name str
  2 hostPort int
  3 containerPort *int
  4 protocol str
  5 hostIP str
EnvFromSource
  1 prefix str
  2 configMapRef *ConfigMapEnvSource
  3 secretRef *SecretEnvSource
ConfigMapEnvSource
  1 - LocalObjectReference
  2 optional *bool
SecretEnvSource
  1 - LocalObjectReference
  2 optional *bool
EnvVar
  1 name *str
  2 value str
  3 valueFrom *EnvVarSource
EnvVarSource
  1 fieldRef *ObjectFieldSelector
  2 resourceFieldRef *ResourceFieldSelector
  3 configMapKeyRef *ConfigMapKeySelector
  4 secretKeyRef *SecretKeySelector
  5 fileKeyRef *FileKeySelector
ConfigMapKeySelector
  1 - LocalObjectReference
  2 key *str
  3 optional *bool
SecretKeySelector
  1 - LocalObjectReference
  2 key *str
  3 optional *bool
FileKeySelector
  1 volumeName *str
  2 path *str
  3 key *str
  4 optional *bool
ResourceRequirements
  1 limits {quantity}
  2 requests {quantity}
  3 claims [ResourceClaim]
ResourceClaim
  1 name *str
  2 request str
ContainerResizePolicy
  1 resourceName *str
  2 restartPolicy *str
ContainerRestartRule
  1 action str
  2 exitCodes *ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes
  1 operator str
  2 values [int]
VolumeMount
  1 name *str
  2 readOnly bool
  7 recursiveReadOnly *str
  3 mountPath *str
  4 subPath str
  5 mountPropagation *str
  6 subPathExpr str
VolumeDevice
  1 name *str
  2 devicePath *str
Probe
  1 - ProbeHandler
  2 initialDelaySeconds int
  3 timeoutSeconds int
  4 periodSeconds int
  5 successThreshold int
  6 failureThreshold int
  7 terminationGracePeriodSeconds *int
ProbeHandler
  1 exec *ExecAction
  2 httpGet *HTTPGetAction
  3 tcpSocket *TCPSocketAction
  4 grpc *GRPCAction
ExecAction
  1 command [str]
HTTPGetAction
  1 path str
  2 port intorstr
  3 host str
  4 scheme str
  5 httpHeaders [HTTPHeader]
HTTPHeader
  1 name *str
  2 value *str
TCPSocketAction
  1 port intorstr
  2 host str
GRPCAction
  1 port *int
  2 service *str
Lifecycle
  1 postStart *LifecycleHandler
  2 preStop *LifecycleHandler
  3 stopSignal *str
LifecycleHandler
  1 exec *ExecAction
  2 httpGet *HTTPGetAction
  3 tcpSocket *TCPSocketAction
  4 sleep *SleepAction
SleepAction
  1 seconds *int
SecurityContext
  1 capabilities *Capabilities
  2 privileged *bool
  3 seLinuxOptions *SELinuxOptions
  10 windowsOptions *WindowsSecurityContextOptions
  4 runAsUser *int
  8 runAsGroup *int
  5 runAsNonRoot *bool
  6 readOnlyRootFilesystem *bool
  7 allowPrivilegeEscalation *bool
  9 procMount *str
  11 seccompProfile *SeccompProfile
  12 appArmorProfile *AppArmorProfile
Capabilities
  1 add [str]
  2 drop [str]
SELinuxOptions
  1 user str
  2 role str
  3 type str
  4 level str
WindowsSecurityContextOptions
  1 gmsaCredentialSpecName *str
  2 gmsaCredentialSpec *str
  3 runAsUserName *str
  4 hostProcess *bool
SeccompProfile
  1 type *str
  2 localhostProfile *str
AppArmorProfile
  1 type *str
  2 localhostProfile *str
EphemeralContainer
  1 - EphemeralContainerCommon
  2 targetContainerName str
EphemeralContainerCommon
  1 name *str
  2 image str
  3 command [str]
  4 args [str]
  5 workingDir str
  6 ports [ContainerPort]
  19 envFrom [EnvFromSource]
  7 env [EnvVar]
  8 resources ResourceRequirements
  23 resizePolicy [ContainerResizePolicy]
  24 restartPolicy *str
  25 restartPolicyRules [ContainerRestartRule]
  9 volumeMounts [VolumeMount]
  21 volumeDevices [VolumeDevice]
  10 livenessProbe *Probe
  11 readinessProbe *Probe
  22 startupProbe *Probe
  12 lifecycle *Lifecycle
  13 terminationMessagePath str
  20 terminationMessagePolicy str
  14 imagePullPolicy str
  15 securityContext *SecurityContext
  16 stdin bool
  17 stdinOnce bool
  18 tty bool
PodSecurityContext
  1 seLinuxOptions *SELinuxOptions
  8 windowsOptions *WindowsSecurityContextOptions
  2 runAsUser *int
  6 runAsGroup *int
  3 runAsNonRoot *bool
  4 supplementalGroups [int]
  12 supplementalGroupsPolicy *str
  5 fsGroup *int
  7 sysctls [Sysctl]
  9 fsGroupChangePolicy *str
  10 seccompProfile *SeccompProfile
  11 appArmorProfile *AppArmorProfile
  13 seLinuxChangePolicy *str
Sysctl
  1 name *str
  2 value *str
Affinity
  1 nodeAffinity *NodeAffinity
  2 podAffinity *PodAffinity
  3 podAntiAffinity *PodAntiAffinity
NodeAffinity
  1 requiredDuringSchedulingIgnoredDuringExecution *NodeSelector
  2 preferredDuringSchedulingIgnoredDuringExecution [PreferredSchedulingTerm]
NodeSelector
  1 nodeSelectorTerms [NodeSelectorTerm]
NodeSelectorTerm
  1 matchExpressions [NodeSelectorRequirement]
  2 matchFields [NodeSelectorRequirement]
NodeSelectorRequirement
  1 key *str
  2 operator *str
  3 values [str]
PreferredSchedulingTerm
  1 weight *int
  2 preference NodeSelectorTerm
PodAffinity
  1 requiredDuringSchedulingIgnoredDuringExecution [PodAffinityTerm]
  2 preferredDuringSchedulingIgnoredDuringExecution [WeightedPodAffinityTerm]
PodAffinityTerm
  1 labelSelector *LabelSelector
  2 namespaces [str]
  3 topologyKey *str
  4 namespaceSelector *LabelSelector
  5 matchLabelKeys [str]
  6 mismatchLabelKeys [str]
WeightedPodAffinityTerm
  1 weight *int
  2 podAffinityTerm PodAffinityTerm
PodAntiAffinity
  1 requiredDuringSchedulingIgnoredDuringExecution [PodAffinityTerm]
  2 preferredDuringSchedulingIgnoredDuringExecution [WeightedPodAffinityTerm]
Toleration
  1 key str
  2 operator str
  3 value str
  4 effect str
  5 tolerationSeconds *int
HostAlias
  1 ip *str
  2 hostnames [str]
PodDNSConfig
  1 nameservers [str]
  2 searches [str]
  3 options [PodDNSConfigOption]
PodDNSConfigOption
  1 name str
  2 value *str
PodReadinessGate
  1 conditionType *str
TopologySpreadConstraint
  1 maxSkew *int
  2 topologyKey *str
  3 whenUnsatisfiable *str
  4 labelSelector *LabelSelector
  5 minDomains *int
  6 nodeAffinityPolicy *str
  7 nodeTaintsPolicy *str
  8 matchLabelKeys [str]
PodOS
  1 name *str
PodSchedulingGate
  1 name *str
PodResourceClaim
  1 name *str
  3 resourceClaimName *str
  4 resourceClaimTemplateName *str
PodStatus
  17 observedGeneration int
  1 phase str
  2 conditions [PodCondition]
  3 message str
  4 reason str
  11 nominatedNodeName str
  5 hostIP str
  16 hostIPs [HostIP]
  6 podIP str
  12 podIPs [PodIP]
  7 startTime *time
  10 initContainerStatuses [ContainerStatus]
  8 containerStatuses [ContainerStatus]
  9 qosClass str
  13 ephemeralContainerStatuses [ContainerStatus]
  14 resize str
  15 resourceClaimStatuses [PodResourceClaimStatus]
  18 extendedResourceClaimStatus *PodExtendedResourceClaimStatus
PodCondition
  1 type *str
  7 observedGeneration int
  2 status *str
  3 lastProbeTime time
  4 lastTransitionTime time
  5 reason str
  6 message str
HostIP
  1 ip *str
PodIP
  1 ip *str
ContainerStatus
  1 name *str
  2 state ContainerState
  3 lastState ContainerState
  4 ready *bool
  5 restartCount *int
  6 image *str
  7 imageID *str
  8 containerID str
  9 started *bool
  10 allocatedResources {quantity}
  11 resources *ResourceRequirements
  12 volumeMounts [VolumeMountStatus]
  13 user *ContainerUser
  14 allocatedResourcesStatus [ResourceStatus]
  15 stopSignal *str
ContainerState
  1 waiting *ContainerStateWaiting
  2 running *ContainerStateRunning
  3 terminated *ContainerStateTerminated
ContainerStateWaiting
  1 reason str
  2 message str
ContainerStateRunning
  1 startedAt time
ContainerStateTerminated
  1 exitCode *int
  2 signal int
  3 reason str
  4 message str
  5 startedAt time
  6 finishedAt time
  7 containerID str
VolumeMountStatus
  1 name *str
  2 mountPath *str
  3 readOnly bool
  4 recursiveReadOnly *str
ContainerUser
  1 linux *LinuxContainerUser
LinuxContainerUser
  1 uid *int
  2 gid *int
  3 supplementalGroups [int]
ResourceStatus
  1 name *str
  2 resources [ResourceHealth]
ResourceHealth
  1 resourceID *str
  2 health str
PodResourceClaimStatus
  1 name *str
  2 resourceClaimName *str
PodExtendedResourceClaimStatus
  1 requestMappings [ContainerExtendedResourceRequest]
  2 resourceClaimName *str
ContainerExtendedResourceRequest
  1 containerName *str
  2 resourceName *str
  3 requestName *str
Service
  1 metadata ObjectMeta
  2 spec ServiceSpec
  3 status ServiceStatus
ServiceSpec
  1 ports [ServicePort]
  2 selector {str}
  3 clusterIP str
  18 clusterIPs [str]
  4 type str
  5 externalIPs [str]
  7 sessionAffinity str
  8 loadBalancerIP str
  9 loadBalancerSourceRanges [str]
  10 externalName str
  11 externalTrafficPolicy str
  12 healthCheckNodePort int
  13 publishNotReadyAddresses bool
  14 sessionAffinityConfig *SessionAffinityConfig
  19 ipFamilies [str]
  17 ipFamilyPolicy *str
  20 allocateLoadBalancerNodePorts *bool
  21 loadBalancerClass *str
  22 internalTrafficPolicy *str
  23 trafficDistribution *str
ServicePort
  1 name str
  2 protocol str
  6 appProtocol *str
  3 port *int
  4 targetPort intorstr
  5 nodePort int
SessionAffinityConfig
  1 clientIP *ClientIPConfig
ClientIPConfig
  1 timeoutSeconds *int
ServiceStatus
  1 loadBalancer LoadBalancerStatus
  2 conditions [Condition]
LoadBalancerStatus
  1 ingress [LoadBalancerIngress]
LoadBalancerIngress
  1 ip str
  2 hostname str
  3 ipMode *str
  4 ports [PortStatus]
PortStatus
  1 port *int
  2 protocol *str
  3 error *str
Condition
  1 type *str
  2 status *str
  3 observedGeneration int
  4 lastTransitionTime time
  5 reason *str
  6 message *str
Endpoints
  1 metadata ObjectMeta
  2 subsets [EndpointSubset]
EndpointSubset
  1 addresses [EndpointAddress]
  2 notReadyAddresses [EndpointAddress]
  3 ports [EndpointPort]
EndpointAddress
  1 ip *str
  3 hostname str
  4 nodeName *str
  2 targetRef *ObjectReference
ObjectReference
  1 kind str
  2 namespace str
  3 name str
  4 uid str
  5 apiVersion str
  6 resourceVersion str
  7 fieldPath str
EndpointPort
  1 name str
  2 port *int
  3 protocol str
  4 appProtocol *str
ConfigMap
  1 metadata ObjectMeta
  4 immutable *bool
  2 data {str}
  3 binaryData {bytes}
Secret
  1 metadata ObjectMeta
  5 immutable *bool
  2 data {bytes}
  4 stringData {str}
  3 type str
ServiceAccount
  1 metadata ObjectMeta
  2 secrets [ObjectReference]
  3 imagePullSecrets [LocalObjectReference]
  4 automountServiceAccountToken *bool
Event
  1 metadata ObjectMeta
  2 involvedObject ObjectReference
  3 reason str
  4 message str
  5 source EventSource
  6 firstTimestamp time
  7 lastTimestamp time
  8 count int
  9 type str
  10 eventTime microtime
  11 series *EventSeries
  12 action str
  13 related *ObjectReference
  14 reportingComponent *str
  15 reportingInstance *str
EventSource
  1 component str
  2 host str
EventSeries
  1 count int
  2 lastObservedTime microtime
Namespace
  1 metadata ObjectMeta
  2 spec NamespaceSpec
  3 status NamespaceStatus
NamespaceSpec
  1 finalizers [str]
NamespaceStatus
  1 phase str
  2 conditions [NamespaceCondition]
NamespaceCondition
  1 type *str
  2 status *str
  4 lastTransitionTime time
  5 reason str
  6 message str
Node
  1 metadata ObjectMeta
  2 spec NodeSpec
  3 status NodeStatus
NodeSpec
  1 podCIDR str
  7 podCIDRs [str]
  3 providerID str
  4 unschedulable bool
  5 taints [Taint]
  6 configSource *NodeConfigSource
  2 externalID str
Taint
  1 key *str
  2 value str
  3 effect *str
  4 timeAdded *time
NodeConfigSource
  2 configMap *ConfigMapNodeConfigSource
ConfigMapNodeConfigSource
  1 namespace *str
  2 name *str
  3 uid str
  4 resourceVersion str
  5 kubeletConfigKey *str
NodeStatus
  1 capacity {quantity}
  2 allocatable {quantity}
  3 phase str
  4 conditions [NodeCondition]
  5 addresses [NodeAddress]
  6 daemonEndpoints NodeDaemonEndpoints
  7 nodeInfo NodeSystemInfo
  8 images [ContainerImage]
  9 volumesInUse [str]
  10 volumesAttached [AttachedVolume]
  11 config *NodeConfigStatus
  12 runtimeHandlers [NodeRuntimeHandler]
  13 features *NodeFeatures
NodeCondition
  1 type *str
  2 status *str
  3 lastHeartbeatTime time
  4 lastTransitionTime time
  5 reason str
  6 message str
NodeAddress
  1 type *str
  2 address *str
NodeDaemonEndpoints
  1 kubeletEndpoint DaemonEndpoint
DaemonEndpoint
  1 Port *int
NodeSystemInfo
  1 machineID *str
  2 systemUUID *str
  3 bootID *str
  4 kernelVersion *str
  5 osImage *str
  6 containerRuntimeVersion *str
  7 kubeletVersion *str
  8 kubeProxyVersion *str
  9 operatingSystem *str
  10 architecture *str
  11 swap *NodeSwapStatus
NodeSwapStatus
  1 capacity *int
ContainerImage
  1 names [str]
  2 sizeBytes int
AttachedVolume
  1 name *str
  2 devicePath *str
NodeConfigStatus
  1 assigned *NodeConfigSource
  2 active *NodeConfigSource
  3 lastKnownGood *NodeConfigSource
  4 error str
NodeRuntimeHandler
  1 name *str
  2 features *NodeRuntimeHandlerFeatures
NodeRuntimeHandlerFeatures
  1 recursiveReadOnlyMounts *bool
  2 userNamespaces *bool
NodeFeatures
  1 supplementalGroupsPolicy *bool
Binding
  1 metadata ObjectMeta
  2 target ObjectReference
Deployment
  1 metadata ObjectMeta
  2 spec DeploymentSpec
  3 status DeploymentStatus
DeploymentSpec
  1 replicas *int
  2 selector *LabelSelector
  3 template PodTemplateSpec
  4 strategy DeploymentStrategy
  5 minReadySeconds int
  6 revisionHistoryLimit *int
  7 paused bool
  9 progressDeadlineSeconds *int
PodTemplateSpec
  1 metadata ObjectMeta
  2 spec PodSpec
DeploymentStrategy
  1 type str
  2 rollingUpdate *RollingUpdateDeployment
RollingUpdateDeployment
  1 maxUnavailable *intorstr
  2 maxSurge *intorstr
DeploymentStatus
  1 observedGeneration int
  2 replicas int
  3 updatedReplicas int
  7 readyReplicas int
  4 availableReplicas int
  5 unavailableReplicas int
  9 terminatingReplicas *int
  6 conditions [DeploymentCondition]
  8 collisionCount *int
DeploymentCondition
  1 type *str
  2 status *str
  6 lastUpdateTime time
  7 lastTransitionTime time
  4 reason str
  5 message str
ReplicaSet
  1 metadata ObjectMeta
  2 spec ReplicaSetSpec
  3 status ReplicaSetStatus
ReplicaSetSpec
  1 replicas *int
  4 minReadySeconds int
  2 selector *LabelSelector
  3 template PodTemplateSpec
ReplicaSetStatus
  1 replicas *int
  2 fullyLabeledReplicas int
  4 readyReplicas int
  5 availableReplicas int
  7 terminatingReplicas *int
  3 observedGeneration int
  6 conditions [ReplicaSetCondition]
ReplicaSetCondition
  1 type *str
  2 status *str
  3 lastTransitionTime time
  4 reason str
  5 message str
DaemonSet
  1 metadata ObjectMeta
  2 spec DaemonSetSpec
  3 status DaemonSetStatus
DaemonSetSpec
  1 selector *LabelSelector
  2 template PodTemplateSpec
  3 updateStrategy DaemonSetUpdateStrategy
  4 minReadySeconds int
  6 revisionHistoryLimit *int
DaemonSetUpdateStrategy
  1 type str
  2 rollingUpdate *RollingUpdateDaemonSet
RollingUpdateDaemonSet
  1 maxUnavailable *intorstr
  2 maxSurge *intorstr
DaemonSetStatus
  1 currentNumberScheduled *int
  2 numberMisscheduled *int
  3 desiredNumberScheduled *int
  4 numberReady *int
  5 observedGeneration int
  6 updatedNumberScheduled int
  7 numberAvailable int
  8 numberUnavailable int
  9 collisionCount *int
  10 conditions [DaemonSetCondition]
DaemonSetCondition
  1 type *str
  2 status *str
  3 lastTransitionTime time
  4 reason str
  5 message str
coordination_Lease
  1 metadata ObjectMeta
  2 spec coordination_LeaseSpec
coordination_LeaseSpec
  1 holderIdentity *str
  2 leaseDurationSeconds *int
  3 acquireTime *microtime
  4 renewTime *microtime
  5 leaseTransitions *int
  6 strategy *str
  7 preferredHolder *str
policy_Eviction
  1 metadata ObjectMeta
  2 deleteOptions *DeleteOptions
DeleteOptions
  1 gracePeriodSeconds *int
  2 preconditions *Preconditions
  3 orphanDependents *bool
  4 propagationPolicy *str
  5 dryRun [str]
  6 ignoreStoreReadErrorWithClusterBreakingPotential *bool
Preconditions
  1 uid *str
  2 resourceVersion *str
autoscaling_Scale
  1 metadata ObjectMeta
  2 spec autoscaling_ScaleSpec
  3 status autoscaling_ScaleStatus
autoscaling_ScaleSpec
  1 replicas int
autoscaling_ScaleStatus
  1 replicas *int
  2 selector str
authorization_SelfSubjectAccessReview
  1 metadata ObjectMeta
  2 spec authorization_SelfSubjectAccessReviewSpec
  3 status authorization_SubjectAccessReviewStatus
authorization_SelfSubjectAccessReviewSpec
  1 resourceAttributes *authorization_ResourceAttributes
  2 nonResourceAttributes *authorization_NonResourceAttributes
authorization_ResourceAttributes
  1 namespace str
  2 verb str
  3 group str
  4 version str
  5 resource str
  6 subresource str
  7 name str
  8 fieldSelector *authorization_FieldSelectorAttributes
  9 labelSelector *authorization_LabelSelectorAttributes
authorization_FieldSelectorAttributes
  1 rawSelector str
  2 requirements [FieldSelectorRequirement]
FieldSelectorRequirement
  1 key *str
  2 operator *str
  3 values [str]
authorization_LabelSelectorAttributes
  1 rawSelector str
  2 requirements [LabelSelectorRequirement]
authorization_NonResourceAttributes
  1 path str
  2 verb str
authorization_SubjectAccessReviewStatus
  1 allowed *bool
  4 denied bool
  2 reason str
  3 evaluationError str
authorization_SelfSubjectRulesReview
  1 metadata ObjectMeta
  2 spec authorization_SelfSubjectRulesReviewSpec
  3 status authorization_SubjectRulesReviewStatus
authorization_SelfSubjectRulesReviewSpec
  1 namespace str
authorization_SubjectRulesReviewStatus
  1 resourceRules [authorization_ResourceRule]
  2 nonResourceRules [authorization_NonResourceRule]
  3 incomplete *bool
  4 evaluationError str
authorization_ResourceRule
  1 verbs [str]
  2 apiGroups [str]
  3 resources [str]
  4 resourceNames [str]
authorization_NonResourceRule
  1 verbs [str]
  2 nonResourceURLs [str]
authentication_SelfSubjectReview
  1 metadata ObjectMeta
  2 status authentication_SelfSubjectReviewStatus
authentication_SelfSubjectReviewStatus
  1 userInfo authentication_UserInfo
authentication_UserInfo
  1 username str
  2 uid str
  3 groups [str]
  4 extra {&[str]}
authentication_TokenRequest
  1 metadata ObjectMeta
  2 spec authentication_TokenRequestSpec
  3 status authentication_TokenRequestStatus
authentication_TokenRequestSpec
  1 audiences [str]
  3 boundObjectRef *authentication_BoundObjectReference
  4 expirationSeconds *int
authentication_BoundObjectReference
  1 kind str
  2 apiVersion str
  3 name str
  4 uid str
authentication_TokenRequestStatus
  1 token str
  2 expirationTimestamp time
authentication_TokenReview
  1 metadata ObjectMeta
  2 spec authentication_TokenReviewSpec
  3 status authentication_TokenReviewStatus
authentication_TokenReviewSpec
  1 token str
  2 audiences [str]
authentication_TokenReviewStatus
  1 authenticated bool
  2 user authentication_UserInfo
  3 audiences [str]
  4 error str
"""
