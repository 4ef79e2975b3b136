package kube

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/plinthdev/plinth/internal/problem"
)

// Kubeconfig is the access to one cluster by the current context of a kubeconfig file.
type Kubeconfig struct {
	Context string // name of the context
	Server  string // URL of the API server
	Content []byte // a kubeconfig with this context only, and without references to files that are relative
}

// ReadKubeconfig reads the kubeconfig file at path. It includes the content of the files that the kubeconfig names, except
// for a token file, which clients read again because its content changes. If a program provides the credentials (exec), its
// environment gets the variables of environ: the kots CLI runs with another environment, and the program may need HOME.
func ReadKubeconfig(path string, environ []string) (Kubeconfig, error) {
	if _, err := os.ReadFile(path); err != nil { // a better message than that of the loader
		return Kubeconfig{}, problem.PathCause(err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return Kubeconfig{}, fmt.Errorf("it is not a kubeconfig: %w", err)
	}
	k := Kubeconfig{Context: config.CurrentContext}
	if k.Context == "" {
		return k, errors.New("it has no current-context")
	}
	err = clientcmd.ResolveLocalPaths(config)
	if err == nil {
		err = api.MinifyConfig(config)
	}
	if err == nil {
		err = api.FlattenConfig(config)
	}
	if err != nil {
		return k, err
	}
	context := config.Contexts[k.Context]
	cluster, user := config.Clusters[context.Cluster], config.AuthInfos[context.AuthInfo]
	if cluster == nil || cluster.Server == "" {
		return k, fmt.Errorf("its context %s names no cluster with a server", k.Context)
	}
	k.Server = cluster.Server
	if user != nil && user.Exec != nil {
		user.Exec.Env = append(execVariables(environ, user.Exec.Env), user.Exec.Env...)
	}
	k.Content, err = clientcmd.Write(*config)
	return k, err
}

// execVariables returns the variables of environ that a program in a kubeconfig does not get from it.
func execVariables(environ []string, own []api.ExecEnvVar) (out []api.ExecEnvVar) {
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if ok && name != "" && !slices.ContainsFunc(own, func(v api.ExecEnvVar) bool { return v.Name == name }) {
			out = append(out, api.ExecEnvVar{Name: name, Value: value})
		}
	}
	return out
}
