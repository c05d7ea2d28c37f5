// Judges objects as GitOps tools do, with the code of those tools: kstatus as Flux and Helm compute it, the health
// check expressions of Flux, and the health script and resource actions of Argo CD. JSON in, JSON out.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"os"
	"strings"

	appv1 "github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type request struct {
	ArgoCD  map[string]string              `json:"argocd"` // the data of the ConfigMap argocd-cm
	Flux    kustomize.HealthCheckExpressions `json:"flux"`
	Objects []json.RawMessage              `json:"objects"`
}

type verdict struct {
	Kstatus        string                     `json:"kstatus"`
	KstatusMessage string                     `json:"kstatusMessage"`
	Flux           string                     `json:"flux"`
	Health         string                     `json:"health"`
	HealthMessage  string                     `json:"healthMessage"`
	Actions        map[string]json.RawMessage `json:"actions"` // the merge patch of each action that is offered
}

func main() {
	var asked request
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	evaluator, err := cel.NewStatusEvaluator(&asked.Flux)
	must(err)
	vm := lua.VM{ResourceOverrides: overrides(asked.ArgoCD)}
	verdicts := []verdict{}
	for _, raw := range asked.Objects {
		verdicts = append(verdicts, judge(raw, evaluator, vm))
	}
	must(json.NewEncoder(os.Stdout).Encode(verdicts))
}

func judge(raw []byte, evaluator *cel.StatusEvaluator, vm lua.VM) verdict {
	object := &unstructured.Unstructured{}
	must(object.UnmarshalJSON(raw))
	computed, err := status.Compute(object)
	must(err)
	evaluated, err := evaluator.Evaluate(context.Background(), object)
	must(err)
	script, _, err := vm.GetHealthScript(object)
	must(err)
	health, err := vm.ExecuteHealthLua(object, script)
	must(err)
	return verdict{
		Kstatus:        computed.Status.String(),
		KstatusMessage: computed.Message,
		Flux:           evaluated.Status.String(),
		Health:         string(health.Status),
		HealthMessage:  health.Message,
		Actions:        actions(object, vm),
	}
}

// Argo CD sends the difference that an action makes as a merge patch (server/application, patchResource).
func actions(object *unstructured.Unstructured, vm lua.VM) map[string]json.RawMessage {
	scripts, err := vm.GetResourceActionDiscovery(object)
	must(err)
	offered, err := vm.ExecuteResourceActionDiscovery(object, scripts)
	must(err)
	before, err := object.MarshalJSON()
	must(err)
	patches := map[string]json.RawMessage{}
	for _, action := range offered {
		if action.Disabled {
			continue
		}
		definition, err := vm.GetResourceAction(object, action.Name)
		must(err)
		impacted, err := vm.ExecuteResourceAction(object, definition.ActionLua, nil)
		must(err)
		after, err := impacted[0].UnstructuredObj.MarshalJSON()
		must(err)
		patch, err := jsonpatch.CreateMergePatch(bytes.TrimSpace(before), bytes.TrimSpace(after))
		must(err)
		patches[action.Name] = patch
	}
	return patches
}

// The keys resource.customizations.health.GROUP_KIND and resource.customizations.actions.GROUP_KIND.
func overrides(data map[string]string) map[string]appv1.ResourceOverride {
	found := map[string]appv1.ResourceOverride{}
	for key, script := range data {
		rest, is := strings.CutPrefix(key, "resource.customizations.")
		kind, name, both := strings.Cut(rest, ".")
		if !is || !both {
			log.Fatalf("argocd-cm has an unknown key %s", key)
		}
		name = strings.Replace(name, "_", "/", 1)
		override := found[name]
		switch kind {
		case "health":
			override.HealthLua = script
		case "actions":
			override.Actions = script
		default:
			log.Fatalf("argocd-cm has an unknown key %s", key)
		}
		found[name] = override
	}
	return found
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
