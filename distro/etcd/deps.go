//go:build deps

package deps

import _ "go.etcd.io/etcd/server/v3/etcdmain"
