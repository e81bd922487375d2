// Applies every manifest below a folder once, with Argo CD's own sync engine, and prints what became of each as JSON.
//
// The lab's stand-in for an Application of Argo CD: the engine is the real one, and there is no repository,
// no comparison between syncs and no retry. Argo CD's own health checks of other people's kinds are not in it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/cache"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/engine"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
)

type outcome struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Status    string `json:"status"`
	HookPhase string `json:"hook_phase"`
	Message   string `json:"message"`
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "which cluster")
	namespace := flag.String("namespace", "default", "of objects that name none")
	bound := flag.Duration("timeout", 2*time.Minute, "after which the sync is ended")
	flag.Parse()
	outcomes, err := syncFolder(*kubeconfig, *namespace, flag.Arg(0), *bound)
	if len(outcomes) > 0 {
		if printed := json.NewEncoder(os.Stdout).Encode(outcomes); printed != nil {
			err = printed
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func syncFolder(kubeconfig, namespace, folder string, bound time.Duration) ([]outcome, error) {
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
	argocd := engine.NewEngine(config, live, engine.WithLogr(logr.Discard()))
	stop, err := argocd.Run()
	if err != nil {
		return nil, err
	}
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	nothing := func(_ *cache.Resource) bool { return false }
	results, err := argocd.Sync(ctx, manifests, nothing, "lab", namespace,
		sync.WithServerSideApply(true), sync.WithServerSideApplyManager("argocd-controller"),
		sync.WithClientSideApplyMigration(false, ""), sync.WithLogr(logr.Discard()))
	outcomes := make([]outcome, 0, len(results))
	for _, result := range results {
		key := result.ResourceKey
		outcomes = append(outcomes, outcome{key.Kind, key.Namespace, key.Name, string(result.Status), string(result.HookPhase), result.Message})
	}
	return outcomes, err
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
