"""Field numbers of CRI v1, generated from k8s.io/cri-api v0.37.2 by tests/kit/cri_table.py: do not edit."""

from __future__ import annotations

TABLE = """
VersionRequest
  1 version str
VersionResponse
  1 version str
  2 runtime_name str
  3 runtime_version str
  4 runtime_api_version str
RunPodSandboxRequest
  1 config *PodSandboxConfig
  2 runtime_handler str
PodSandboxConfig
  1 metadata *PodSandboxMetadata
  2 hostname str
  3 log_directory str
  4 dns_config *DNSConfig
  5 port_mappings [PortMapping]
  6 labels {str}
  7 annotations {str}
  8 linux *LinuxPodSandboxConfig
PodSandboxMetadata
  1 name str
  2 uid str
  3 namespace str
  4 attempt int
DNSConfig
  1 servers [str]
  2 searches [str]
  3 options [str]
PortMapping
  1 protocol int
  2 container_port int
  3 host_port int
  4 host_ip str
LinuxPodSandboxConfig
  1 cgroup_parent str
  2 security_context *LinuxSandboxSecurityContext
  3 sysctls {str}
  4 overhead *LinuxContainerResources
  5 resources *LinuxContainerResources
LinuxSandboxSecurityContext
  1 namespace_options *NamespaceOption
  2 selinux_options *SELinuxOption
  3 run_as_user *Int64Value
  8 run_as_group *Int64Value
  4 readonly_rootfs bool
  5 supplemental_groups [int]
  11 supplemental_groups_policy int
  6 privileged bool
  9 seccomp *SecurityProfile
  10 apparmor *SecurityProfile
  7 seccomp_profile_path str
NamespaceOption
  1 network int
  2 pid int
  3 ipc int
  4 target_id str
  5 userns_options *UserNamespace
UserNamespace
  1 mode int
  2 uids [IDMapping]
  3 gids [IDMapping]
IDMapping
  1 host_id int
  2 container_id int
  3 length int
SELinuxOption
  1 user str
  2 role str
  3 type str
  4 level str
Int64Value
  1 value int
SecurityProfile
  1 profile_type int
  2 localhost_ref str
LinuxContainerResources
  1 cpu_period int
  2 cpu_quota int
  3 cpu_shares int
  4 memory_limit_in_bytes int
  5 oom_score_adj int
  6 cpuset_cpus str
  7 cpuset_mems str
  8 hugepage_limits [HugepageLimit]
  9 unified {str}
  10 memory_swap_limit_in_bytes int
HugepageLimit
  1 page_size str
  2 limit int
RunPodSandboxResponse
  1 pod_sandbox_id str
StopPodSandboxRequest
  1 pod_sandbox_id str
StopPodSandboxResponse
RemovePodSandboxRequest
  1 pod_sandbox_id str
RemovePodSandboxResponse
PodSandboxStatusRequest
  1 pod_sandbox_id str
  2 verbose bool
PodSandboxStatusResponse
  1 status *PodSandboxStatus
  2 info {str}
  3 containers_statuses [ContainerStatus]
  4 timestamp int
PodSandboxStatus
  1 id str
  2 metadata *PodSandboxMetadata
  3 state int
  4 created_at int
  5 network *PodSandboxNetworkStatus
  6 linux *LinuxPodSandboxStatus
  7 labels {str}
  8 annotations {str}
  9 runtime_handler str
PodSandboxNetworkStatus
  1 ip str
  2 additional_ips [PodIP]
PodIP
  1 ip str
LinuxPodSandboxStatus
  1 namespaces *Namespace
Namespace
  2 options *NamespaceOption
ContainerStatus
  1 id str
  2 metadata *ContainerMetadata
  3 state int
  4 created_at int
  5 started_at int
  6 finished_at int
  7 exit_code int
  8 image *ImageSpec
  9 image_ref str
  10 reason str
  11 message str
  12 labels {str}
  13 annotations {str}
  14 mounts [Mount]
  15 log_path str
  16 resources *ContainerResources
  17 image_id str
  18 user *ContainerUser
  19 stop_signal int
ContainerMetadata
  1 name str
  2 attempt int
ImageSpec
  1 image str
  2 annotations {str}
  18 user_specified_image str
  19 runtime_handler str
  20 image_ref str
Mount
  1 container_path str
  2 host_path str
  3 readonly bool
  4 selinux_relabel bool
  5 propagation int
  6 uidMappings [IDMapping]
  7 gidMappings [IDMapping]
  8 recursive_read_only bool
  9 image *ImageSpec
  10 image_sub_path str
  11 mount_options [str]
ContainerResources
  1 linux *LinuxContainerResources
ContainerUser
  1 linux *LinuxContainerUser
LinuxContainerUser
  1 uid int
  2 gid int
  3 supplemental_groups [int]
ListPodSandboxRequest
  1 filter *PodSandboxFilter
PodSandboxFilter
  1 id str
  2 state *PodSandboxStateValue
  3 label_selector {str}
PodSandboxStateValue
  1 state int
ListPodSandboxResponse
  1 items [PodSandbox]
PodSandbox
  1 id str
  2 metadata *PodSandboxMetadata
  3 state int
  4 created_at int
  5 labels {str}
  6 annotations {str}
  7 runtime_handler str
CreateContainerRequest
  1 pod_sandbox_id str
  2 config *ContainerConfig
  3 sandbox_config *PodSandboxConfig
ContainerConfig
  1 metadata *ContainerMetadata
  2 image *ImageSpec
  3 command [str]
  4 args [str]
  5 working_dir str
  6 envs [KeyValue]
  7 mounts [Mount]
  8 devices [Device]
  9 labels {str}
  10 annotations {str}
  11 log_path str
  12 stdin bool
  13 stdin_once bool
  14 tty bool
  15 linux *LinuxContainerConfig
  17 CDI_devices [CDIDevice]
  18 stop_signal int
KeyValue
  1 key str
  2 value raw
Device
  1 container_path str
  2 host_path str
  3 permissions str
LinuxContainerConfig
  1 resources *LinuxContainerResources
  2 security_context *LinuxContainerSecurityContext
LinuxContainerSecurityContext
  1 capabilities *Capability
  2 privileged bool
  3 namespace_options *NamespaceOption
  4 selinux_options *SELinuxOption
  5 run_as_user *Int64Value
  12 run_as_group *Int64Value
  6 run_as_username str
  7 readonly_rootfs bool
  8 supplemental_groups [int]
  17 supplemental_groups_policy int
  11 no_new_privs bool
  13 masked_paths [str]
  14 readonly_paths [str]
  15 seccomp *SecurityProfile
  16 apparmor *SecurityProfile
  9 apparmor_profile str
  10 seccomp_profile_path str
Capability
  1 add_capabilities [str]
  2 drop_capabilities [str]
  3 add_ambient_capabilities [str]
CDIDevice
  1 name str
CreateContainerResponse
  1 container_id str
StartContainerRequest
  1 container_id str
StartContainerResponse
StopContainerRequest
  1 container_id str
  2 timeout int
StopContainerResponse
RemoveContainerRequest
  1 container_id str
RemoveContainerResponse
ListContainersRequest
  1 filter *ContainerFilter
ContainerFilter
  1 id str
  2 state *ContainerStateValue
  3 pod_sandbox_id str
  4 label_selector {str}
ContainerStateValue
  1 state int
ListContainersResponse
  1 containers [Container]
Container
  1 id str
  2 pod_sandbox_id str
  3 metadata *ContainerMetadata
  4 image *ImageSpec
  5 image_ref str
  6 state int
  7 created_at int
  8 labels {str}
  9 annotations {str}
  10 image_id str
ContainerStatusRequest
  1 container_id str
  2 verbose bool
ContainerStatusResponse
  1 status *ContainerStatus
  2 info {str}
UpdateContainerResourcesRequest
  1 container_id str
  2 linux *LinuxContainerResources
  4 annotations {str}
UpdateContainerResourcesResponse
ReopenContainerLogRequest
  1 container_id str
ReopenContainerLogResponse
ExecSyncRequest
  1 container_id str
  2 cmd [str]
  3 timeout int
ExecSyncResponse
  1 stdout raw
  2 stderr raw
  3 exit_code int
ExecRequest
  1 container_id str
  2 cmd [str]
  3 tty bool
  4 stdin bool
  5 stdout bool
  6 stderr bool
ExecResponse
  1 url str
AttachRequest
  1 container_id str
  2 stdin bool
  3 tty bool
  4 stdout bool
  5 stderr bool
AttachResponse
  1 url str
PortForwardRequest
  1 pod_sandbox_id str
  2 port [int]
PortForwardResponse
  1 url str
ContainerStatsRequest
  1 container_id str
ContainerStatsResponse
  1 stats *ContainerStats
ContainerStats
  1 attributes *ContainerAttributes
  2 cpu *CpuUsage
  3 memory *MemoryUsage
  4 writable_layer *FilesystemUsage
  5 swap *SwapUsage
  6 io *IoUsage
ContainerAttributes
  1 id str
  2 metadata *ContainerMetadata
  3 labels {str}
  4 annotations {str}
CpuUsage
  1 timestamp int
  2 usage_core_nano_seconds *UInt64Value
  3 usage_nano_cores *UInt64Value
  4 psi *PsiStats
UInt64Value
  1 value int
PsiStats
  1 Full *PsiData
  2 Some *PsiData
PsiData
  1 Total int
  2 Avg10 num
  3 Avg60 num
  4 Avg300 num
MemoryUsage
  1 timestamp int
  2 working_set_bytes *UInt64Value
  3 available_bytes *UInt64Value
  4 usage_bytes *UInt64Value
  5 rss_bytes *UInt64Value
  6 page_faults *UInt64Value
  7 major_page_faults *UInt64Value
  8 psi *PsiStats
FilesystemUsage
  1 timestamp int
  2 fs_id *FilesystemIdentifier
  3 used_bytes *UInt64Value
  4 inodes_used *UInt64Value
FilesystemIdentifier
  1 mountpoint str
SwapUsage
  1 timestamp int
  2 swap_available_bytes *UInt64Value
  3 swap_usage_bytes *UInt64Value
IoUsage
  1 timestamp int
  2 psi *PsiStats
ListContainerStatsRequest
  1 filter *ContainerStatsFilter
ContainerStatsFilter
  1 id str
  2 pod_sandbox_id str
  3 label_selector {str}
ListContainerStatsResponse
  1 stats [ContainerStats]
ListPodSandboxStatsRequest
  1 filter *PodSandboxStatsFilter
PodSandboxStatsFilter
  1 id str
  2 label_selector {str}
ListPodSandboxStatsResponse
  1 stats [PodSandboxStats]
PodSandboxStats
  1 attributes *PodSandboxAttributes
  2 linux *LinuxPodSandboxStats
PodSandboxAttributes
  1 id str
  2 metadata *PodSandboxMetadata
  3 labels {str}
  4 annotations {str}
LinuxPodSandboxStats
  1 cpu *CpuUsage
  2 memory *MemoryUsage
  3 network *NetworkUsage
  4 process *ProcessUsage
  5 containers [ContainerStats]
  6 io *IoUsage
NetworkUsage
  1 timestamp int
  2 default_interface *NetworkInterfaceUsage
  3 interfaces [NetworkInterfaceUsage]
NetworkInterfaceUsage
  1 name str
  2 rx_bytes *UInt64Value
  3 rx_errors *UInt64Value
  4 tx_bytes *UInt64Value
  5 tx_errors *UInt64Value
ProcessUsage
  1 timestamp int
  2 process_count *UInt64Value
UpdateRuntimeConfigRequest
  1 runtime_config *RuntimeConfig
RuntimeConfig
  1 network_config *NetworkConfig
NetworkConfig
  1 pod_cidr str
UpdateRuntimeConfigResponse
StatusRequest
  1 verbose bool
StatusResponse
  1 status *RuntimeStatus
  2 info {str}
  3 runtime_handlers [RuntimeHandler]
  4 features *RuntimeFeatures
RuntimeStatus
  1 conditions [RuntimeCondition]
RuntimeCondition
  1 type str
  2 status bool
  3 reason str
  4 message str
RuntimeHandler
  1 name str
  2 features *RuntimeHandlerFeatures
RuntimeHandlerFeatures
  1 recursive_read_only_mounts bool
  2 user_namespaces bool
RuntimeFeatures
  1 supplemental_groups_policy bool
  2 user_namespaces_host_network bool
  3 mount_options bool
GetEventsRequest
ContainerEventResponse
  1 container_id str
  2 container_event_type int
  3 created_at int
  4 pod_sandbox_status *PodSandboxStatus
  5 containers_statuses [ContainerStatus]
RuntimeConfigRequest
RuntimeConfigResponse
  1 linux *LinuxRuntimeConfiguration
LinuxRuntimeConfiguration
  1 cgroup_driver int
ListImagesRequest
  1 filter *ImageFilter
ImageFilter
  1 image *ImageSpec
ListImagesResponse
  1 images [Image]
Image
  1 id str
  2 repo_tags [str]
  3 repo_digests [str]
  4 size int
  5 uid *Int64Value
  6 username str
  7 spec *ImageSpec
  8 pinned bool
ImageStatusRequest
  1 image *ImageSpec
  2 verbose bool
ImageStatusResponse
  1 image *Image
  2 info {str}
PullImageRequest
  1 image *ImageSpec
  2 auth *AuthConfig
  3 sandbox_config *PodSandboxConfig
AuthConfig
  1 username str
  2 password str
  3 auth str
  4 server_address str
  5 identity_token str
  6 registry_token str
PullImageResponse
  1 image_ref str
RemoveImageRequest
  1 image *ImageSpec
RemoveImageResponse
ImageFsInfoRequest
ImageFsInfoResponse
  1 image_filesystems [FilesystemUsage]
  2 container_filesystems [FilesystemUsage]
"""
