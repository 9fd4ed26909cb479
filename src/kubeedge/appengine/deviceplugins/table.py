"""Field numbers of deviceplugin v1beta1 and of podresources v1, as far as a node uses them."""

from __future__ import annotations

TABLE = """
Empty
DevicePluginOptions
  1 pre_start_required bool
  2 get_preferred_allocation_available bool
RegisterRequest
  1 version str
  2 endpoint str
  3 resource_name str
  4 options *DevicePluginOptions
ListAndWatchResponse
  1 devices [Device]
TopologyInfo
  1 nodes [NumaNode]
NumaNode
  1 ID *int
Device
  1 ID str
  2 health str
  3 topology *TopologyInfo
PreStartContainerRequest
  1 devices_ids [str]
PreStartContainerResponse
PreferredAllocationRequest
  1 container_requests [ContainerPreferredAllocationRequest]
ContainerPreferredAllocationRequest
  1 available_deviceIDs [str]
  2 must_include_deviceIDs [str]
  3 allocation_size int
PreferredAllocationResponse
  1 container_responses [ContainerPreferredAllocationResponse]
ContainerPreferredAllocationResponse
  1 deviceIDs [str]
AllocateRequest
  1 container_requests [ContainerAllocateRequest]
ContainerAllocateRequest
  1 devices_ids [str]
AllocateResponse
  1 container_responses [ContainerAllocateResponse]
ContainerAllocateResponse
  1 envs {str}
  2 mounts [DeviceMount]
  3 devices [DeviceSpec]
  4 annotations {str}
  5 cdi_devices [CDIDevice]
CDIDevice
  1 name str
DeviceMount
  1 container_path str
  2 host_path str
  3 read_only bool
DeviceSpec
  1 container_path str
  2 host_path str
  3 permissions str
ListPodResourcesRequest
ListPodResourcesResponse
  1 pod_resources [PodResources]
AllocatableResourcesRequest
AllocatableResourcesResponse
  1 devices [ContainerDevices]
PodResources
  1 name str
  2 namespace str
  3 containers [ContainerResources]
ContainerResources
  1 name str
  2 devices [ContainerDevices]
ContainerDevices
  1 resource_name str
  2 device_ids [str]
  3 topology *TopologyInfo
GetPodResourcesRequest
  1 pod_name str
  2 pod_namespace str
GetPodResourcesResponse
  1 pod_resources *PodResources
"""
