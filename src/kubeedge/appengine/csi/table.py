"""Field numbers of csi.proto v1 and of pluginregistration v1, as far as a node uses them."""

from __future__ import annotations

TABLE = """
InfoRequest
PluginInfo
  1 type str
  2 name str
  3 endpoint str
  4 supported_versions [str]
RegistrationStatus
  1 plugin_registered bool
  2 error str
RegistrationStatusResponse
NodeGetInfoRequest
NodeGetInfoResponse
  1 node_id str
  2 max_volumes_per_node int
  3 accessible_topology *Topology
Topology
  1 segments {str}
NodeGetCapabilitiesRequest
NodeGetCapabilitiesResponse
  1 capabilities [NodeServiceCapability]
NodeServiceCapability
  1 rpc *NodeRpc
NodeRpc
  1 type int
VolumeCapability
  2 mount *MountVolume
  3 access_mode *AccessMode
MountVolume
  1 fs_type str
  2 mount_flags [str]
  3 volume_mount_group str
AccessMode
  1 mode int
NodeStageVolumeRequest
  1 volume_id str
  2 publish_context {str}
  3 staging_target_path str
  4 volume_capability *VolumeCapability
  5 secrets {str}
  6 volume_context {str}
NodeStageVolumeResponse
NodeUnstageVolumeRequest
  1 volume_id str
  2 staging_target_path str
NodeUnstageVolumeResponse
NodePublishVolumeRequest
  1 volume_id str
  2 publish_context {str}
  3 staging_target_path str
  4 target_path str
  5 volume_capability *VolumeCapability
  6 readonly bool
  7 secrets {str}
  8 volume_context {str}
NodePublishVolumeResponse
NodeUnpublishVolumeRequest
  1 volume_id str
  2 target_path str
NodeUnpublishVolumeResponse
NodeGetVolumeStatsRequest
  1 volume_id str
  2 volume_path str
  3 staging_target_path str
NodeGetVolumeStatsResponse
  1 usage [VolumeUsage]
VolumeUsage
  1 available int
  2 total int
  3 used int
  4 unit int
NodeExpandVolumeRequest
  1 volume_id str
  2 volume_path str
  3 capacity_range *CapacityRange
  4 staging_target_path str
  5 volume_capability *VolumeCapability
  6 secrets {str}
NodeExpandVolumeResponse
  1 capacity_bytes int
CapacityRange
  1 required_bytes int
  2 limit_bytes int
"""
