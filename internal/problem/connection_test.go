package problem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestExplainConnection_LeavesTheRequestOut(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	client := &http.Client{Timeout: 10 * time.Second}
	_, refused := client.Get("http://" + closed.Addr().String() + "/api") //nolint:bodyclose,noctx // it fails
	_, missing := os.ReadFile("/nope/admin.conf")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"refused":          {fmt.Errorf("list: %w", refused), "connection refused"},
		"refused, by gRPC": {errors.New(`rpc error: code = Unavailable desc = "transport: dial tcp 127.0.0.1:2379: connect: connection refused"`), "connection refused"},
		"a timeout":        {fmt.Errorf("get: %w", context.DeadlineExceeded), "no answer in time"},
		"closed":           {fmt.Errorf("get: %w", io.EOF), "the connection was closed"},
		"a missing file":   {missing, "/nope/admin.conf: no such file or directory"},
		"something else":   {errors.New("it is not PEM"), "it is not PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problem.ExplainConnection(c.err); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
