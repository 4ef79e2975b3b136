package kube

import (
	"errors"
	"fmt"
	"os"
	"slices"

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
// for a token file, which clients read again because its content changes. A program that provides the credentials (exec)
// gets home as its HOME: the kots CLI, which runs it, has another one.
func ReadKubeconfig(path, home string) (Kubeconfig, error) {
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
	if user != nil && user.Exec != nil && !slices.ContainsFunc(user.Exec.Env, func(v api.ExecEnvVar) bool { return v.Name == "HOME" }) {
		user.Exec.Env = append(user.Exec.Env, api.ExecEnvVar{Name: "HOME", Value: home})
	}
	k.Content, err = clientcmd.Write(*config)
	return k, err
}
