// Applies every manifest below a folder once, with Argo CD's own sync engine, and prints what became of each as JSON.
//
// The lab's stand-in for an Application of Argo CD: the engine is the real one, and there is no repository,
// no pruning and no retry. Argo CD's own health checks of other people's kinds are not in it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/cache"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync/common"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/tracing"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
)

type object struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Status    string `json:"status"`
	HookPhase string `json:"hook_phase"`
	Message   string `json:"message"`
}

type outcome struct {
	Phase   string   `json:"phase"`
	Message string   `json:"message"`
	Objects []object `json:"objects"`
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "which cluster")
	namespace := flag.String("namespace", "default", "of objects that name none")
	bound := flag.Duration("timeout", 2*time.Minute, "after which the sync is ended")
	flag.Parse()
	done, err := syncFolder(*kubeconfig, *namespace, flag.Arg(0), *bound)
	if done != nil {
		if printed := json.NewEncoder(os.Stdout).Encode(done); printed != nil {
			err = printed
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func syncFolder(kubeconfig, namespace, folder string, bound time.Duration) (*outcome, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 200, 200
	manifests, err := read(folder)
	if err != nil {
		return nil, err
	}
	// Live objects are compared as a whole, so the cache keeps them.
	whole := func(_ *unstructured.Unstructured, _ bool) (any, bool) { return nil, true }
	live := cache.NewClusterCache(config, cache.SetLogr(logr.Discard()), cache.SetPopulateResourceInfoHandler(whole))
	if err := live.EnsureSynced(); err != nil {
		return nil, err
	}
	defer live.Invalidate()
	kubectl := &kube.KubectlCmd{Log: logr.Discard(), Tracer: tracing.NopTracer{}}
	nothing := func(_ *cache.Resource) bool { return false }
	// As Argo CD's controller does it: look at the cluster, go one step, remember what became of it, look again.
	phase, message, started := common.OperationRunning, "", metav1.Now()
	var results []common.ResourceSyncResult
	for deadline := time.Now().Add(bound); ; time.Sleep(time.Second / 2) {
		found, err := live.GetManagedLiveObjs(manifests, nothing)
		if err != nil {
			return nil, err
		}
		step, cleanup, err := sync.NewSyncContext("lab", sync.Reconcile(manifests, found, namespace, live), config, config, kubectl, namespace,
			sync.WithServerSideApply(true), sync.WithServerSideApplyManager("argocd-controller"),
			sync.WithClientSideApplyMigration(false, ""), sync.WithLogr(logr.Discard()),
			sync.WithInitialState(phase, message, results, started))
		if err != nil {
			return nil, err
		}
		step.Sync()
		phase, message, results = step.GetState()
		cleanup()
		if phase.Completed() {
			return outcomes(phase, message, results), nil
		}
		if time.Now().After(deadline) {
			return outcomes(phase, message, results), fmt.Errorf("not done after %s: %s", bound, message)
		}
	}
}

func outcomes(phase common.OperationPhase, message string, results []common.ResourceSyncResult) *outcome {
	found := &outcome{Phase: string(phase), Message: message, Objects: []object{}}
	for _, result := range results {
		key := result.ResourceKey
		found.Objects = append(found.Objects, object{key.Kind, key.Namespace, key.Name, string(result.Status), string(result.HookPhase), result.Message})
	}
	return found
}

func read(folder string) ([]*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		items, err := kube.SplitYAML(text)
		found = append(found, items...)
		return err
	})
	return found, err
}
