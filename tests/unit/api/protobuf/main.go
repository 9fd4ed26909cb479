// Makes golden.jsonl: objects as Kubernetes' own serializers write them, in protobuf (base64) and in JSON.
//
//	go mod init golden && go get k8s.io/api@v0.34.2 && go run . > golden.jsonl
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authv1 "k8s.io/api/authorization/v1"
	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func ptr[T any](v T) *T { return &v }

func main() {
	now := metav1.NewTime(time.Unix(1790000000, 0).UTC())
	container := corev1.Container{
		Name: "c", Image: "busybox", Command: []string{"sleep", ""}, WorkingDir: "/",
		Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80, Protocol: "TCP"}},
		Env: []corev1.EnvVar{{Name: "A", Value: "ä"}, {Name: "B", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k", Optional: ptr(false)}}}},
		EnvFrom:   []corev1.EnvFromSource{{Prefix: "P", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}}},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("64Mi")}},
		VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v", ReadOnly: true}},
		LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("web"),
			HTTPHeaders: []corev1.HTTPHeader{{Name: "X", Value: "y"}}}}, PeriodSeconds: 3},
		ReadinessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}},
		SecurityContext: &corev1.SecurityContext{RunAsUser: ptr(int64(0)), Privileged: ptr(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
	}
	spec := corev1.PodSpec{
		Containers: []corev1.Container{container}, InitContainers: []corev1.Container{{Name: "i", Image: "x", RestartPolicy: ptr(corev1.ContainerRestartPolicyAlways)}},
		Volumes: []corev1.Volume{
			{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("1Gi"))}}},
			{Name: "w", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "m", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"},
				Items: []corev1.KeyToPath{{Key: "k", Path: "p", Mode: ptr(int32(0o400))}}}}},
		},
		TerminationGracePeriodSeconds: ptr(int64(0)), AutomountServiceAccountToken: ptr(false), HostNetwork: true, Priority: ptr(int32(-7)),
		NodeSelector: map[string]string{"a": "", "b": "c"}, SecurityContext: &corev1.PodSecurityContext{SupplementalGroups: []int64{1, 300, -1}},
		Tolerations: []corev1.Toleration{{Key: "k", Operator: "Exists", TolerationSeconds: ptr(int64(30))}},
	}
	labels := map[string]string{"app": "x"}
	objects := []runtime.Object{
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: labels, Annotations: map[string]string{"e": ""}}, Spec: spec},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "q", CreationTimestamp: now, DeletionTimestamp: &now, Generation: 3, Finalizers: []string{"f/g"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n", UID: "u", Controller: ptr(true), BlockOwnerDeletion: ptr(false)}},
			ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "k", Operation: "Apply", Time: &now, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)}}}},
			Status: corev1.PodStatus{Phase: "Running", StartTime: &now, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Ready: true, Started: ptr(false),
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}}},
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{Replicas: ptr(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: ptr(intstr.FromInt32(0)), MaxUnavailable: ptr(intstr.FromString("50%"))}}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "r"}}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"k": {0, 1, 255}, "empty": {}}, Type: "Opaque", Immutable: ptr(false)},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Data: map[string]string{"k": "v\n", "empty": ""}, BinaryData: map[string][]byte{"b": {7}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc"}, Spec: corev1.ServiceSpec{Type: "ClusterIP", Selector: labels,
			Ports: []corev1.ServicePort{{Name: "a", Port: 80, TargetPort: intstr.FromInt32(8080)}, {Name: "b", Port: 81}}}},
		&coordv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l"}, Spec: coordv1.LeaseSpec{HolderIdentity: ptr("me"), LeaseDurationSeconds: ptr(int32(15)),
			RenewTime: ptr(metav1.NewMicroTime(time.Unix(1790000000, 123456000).UTC()))}},
		&authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authv1.ResourceAttributes{Verb: "get", Resource: "pods"}}},
		&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p"}, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(0))}},
		&metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(0)), PropagationPolicy: ptr(metav1.DeletePropagationForeground), Preconditions: &metav1.Preconditions{UID: ptr(types.UID("u"))}, DryRun: []string{"All"}},
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, coordv1.AddToScheme, authv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	scheme.AddKnownTypes(schema.GroupVersion{Version: "v1"}, &metav1.DeleteOptions{})
	encoder := protobuf.NewSerializer(scheme, scheme)
	for _, object := range objects {
		kinds, _, err := scheme.ObjectKinds(object)
		if err != nil {
			panic(err)
		}
		for _, kind := range kinds {
			if _, isOptions := object.(*metav1.DeleteOptions); !isOptions || kind.Group == "" {
				object.GetObjectKind().SetGroupVersionKind(kind)
			}
		}
		var raw bytes.Buffer
		if err := encoder.Encode(object, &raw); err != nil {
			panic(err)
		}
		text, _ := json.Marshal(object)
		line, _ := json.Marshal(map[string]any{"protobuf": base64.StdEncoding.EncodeToString(raw.Bytes()), "json": json.RawMessage(text)})
		fmt.Println(string(line))
	}
}
