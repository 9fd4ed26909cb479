"""Bytes that Kubernetes objects are full of: the preset dictionary of compression (RFC 1951, RFC 1950 section 2.2).

Both ends must have the same: to change it is to make another feature (kubeedge.hub.core.FEATURES). What is met most often stands last,
where references to it are shortest.
"""

from __future__ import annotations

KUBERNETES = "".join(
    (
        '{"target":"127.0.0.1:8080"}{"binaryData":{"immutable":true,"type":"Opaque"}"kubernetes.io/service-account-token"',
        '"livenessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":8080,"scheme":"HTTP"},"initialDelaySeconds":',
        '"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"readinessProbe":{"tcpSocket":{"exec":{"command":["',
        '"startupProbe":{"securityContext":{"privileged":true,"runAsUser":"runAsNonRoot":"readOnlyRootFilesystem":',
        '"capabilities":{"add":["NET_ADMIN"],"drop":["ALL"]}"allowPrivilegeEscalation":false"affinity":{"nodeAffinity":{',
        '"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"operator":"In"',
        '"hostNetwork":true,"hostPath":{"path":"/var/","type":"Directory"}"emptyDir":{}"configMap":{"defaultMode":420,"name":"',
        '"secret":{"defaultMode":420,"secretName":"projected":{"sources":[{"initContainers":[{"subPath":"valueFrom":{',
        '"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}"configMapKeyRef":{"key":"secretKeyRef":{"envFrom":[{',
        '"allocatable":{"cpu":"ephemeral-storage":"memory":"Ki","pods":"110"},"capacity":{"cpu":"',
        '"nodeInfo":{"architecture":"amd64","bootID":"containerRuntimeVersion":"kernelVersion":"kubeletVersion":"machineID":"',
        '"operatingSystem":"linux","osImage":"Debian GNU/Linux 12 (bookworm)","systemUUID":"addresses":[{"address":"',
        '"type":"InternalIP"},{"type":"Hostname"}"daemonEndpoints":{"kubeletEndpoint":{"Port":10250}}"conditions":[{',
        '"lastHeartbeatTime":"reason":"KubeletReady"',
        '"metadata":{"labels":{"kubernetes.io/arch":"kubernetes.io/hostname":"kubernetes.io/os":"linux"},"name":"edge"}',
        '"taints":[{"effect":"NoSchedule","key":"node-role.kubernetes.io/edge"',
        '{"apiVersion":"v1","count":1,"eventTime":null,"firstTimestamp":"involvedObject":{"kind":"Pod","kind":"Event",',
        '"lastTimestamp":"message":"reason":"Started","source":{"component":"kubelet","host":"type":"Normal"}"type":"Warning"',
        '"Pulling","Pulled","Created","Killing","BackOff","FailedMount","Unhealthy"',
        '{"uid":"","status":{"conditions":[{"lastProbeTime":null,"lastTransitionTime":"2026-01-01T00:00:00Z","message":"',
        '"reason":"ContainersNotReady","status":"False","type":"Initialized"},{"status":"True","type":"Ready"},',
        '"type":"ContainersReady"},"type":"PodScheduled"}],"containerStatuses":[{"containerID":"crun://","image":"',
        '"imageID":"sha256:","lastState":{},"name":"","ready":true,"restartCount":0,"started":true,"state":{"running":{',
        '"startedAt":"2026-"}},"state":{"waiting":{"reason":"ContainerCreating"},"CrashLoopBackOff","ImagePullBackOff",',
        '"terminated":{"containerID":"exitCode":0,"finishedAt":"reason":"Completed","reason":"Error"}',
        '"hostIP":"10.","hostIPs":[{"ip":"phase":"Running","podIP":"10.","podIPs":[{"ip":"qosClass":"BestEffort",',
        '"Burstable""Guaranteed""startTime":"2026-"phase":"Pending""phase":"Succeeded""phase":"Failed"',
        '{"metadata":{"annotations":{"kubeedge.io/"creationTimestamp":"2026-"deletionGracePeriodSeconds":30,',
        '"deletionTimestamp":"2026-"labels":{"app":"app.kubernetes.io/name":"app.kubernetes.io/instance":',
        '"pod-template-hash":"controller-revision-hash":"name":"namespace":"default","namespace":"kube-system",',
        '"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet",',
        '"kind":"DaemonSet","name":"uid":"},"spec":{"containers":[{"args":["command":["env":[{"name":"value":"',
        '"image":"docker.io/library/","imagePullPolicy":"IfNotPresent","imagePullPolicy":"Always","name":"ports":[{',
        '"containerPort":80,"hostPort":"protocol":"TCP"}],"resources":{"limits":{"cpu":"100m","memory":"64Mi"},',
        '"requests":{"cpu":"memory":"128Mi"}},"terminationMessagePath":"/dev/termination-log",',
        '"terminationMessagePolicy":"File","volumeMounts":[{"mountPath":"name":"readOnly":true}]}],',
        '"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"nodeName":"edge1","nodeSelector":{"preemptionPolicy":',
        '"PreemptLowerPriority","priority":0,"restartPolicy":"Always","schedulerName":"default-scheduler",',
        '"securityContext":{},"serviceAccount":"default","serviceAccountName":"default",',
        '"terminationGracePeriodSeconds":30,"tolerations":[{"effect":"NoExecute","key":"node.kubernetes.io/not-ready",',
        '"operator":"Exists","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable"}],"volumes":[{"name":"',
        "webservices/_/events/default/secrets/default/configmaps/default/configmaps/kube-system/nodes/_/pods/kube-system/",
        "pods/default/",
    )
).encode()
