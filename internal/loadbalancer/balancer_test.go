package loadbalancer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
)

// controller is a server that answers each line with its own name and that line.
type controller struct {
	name string
	ln   net.Listener
	mu   sync.Mutex
	sick error
}

func newController(t *testing.T, name string) *controller {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{name: name, ln: ln}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					_, _ = fmt.Fprintf(conn, "%s %s\n", name, lines.Text())
				}
			}()
		}
	}()
	return c
}

func (c *controller) addr() netip.AddrPort { return netip.MustParseAddrPort(c.ln.Addr().String()) }

// setHealth sets the result of health checks; nil is healthy.
func (c *controller) setHealth(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sick = err
}

// cluster is the cluster of a load balancer under test.
type cluster struct {
	list []*controller
	mu   sync.Mutex
	all  []netip.AddrPort // controllers that the API returns
	log  []string
}

func (c *cluster) healthy(_ context.Context, a netip.AddrPort) error {
	for _, x := range c.list {
		if x.addr() == a {
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.sick
		}
	}
	return errors.New("unknown")
}

func (c *cluster) controllers(context.Context) ([]netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all, nil
}

// memory is a ControllerStore in memory.
type memory struct {
	mu   sync.Mutex
	list []netip.AddrPort
}

func (m *memory) Load() ([]netip.AddrPort, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.list), nil
}

func (m *memory) Save(l []netip.AddrPort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = l
	return nil
}

// start runs a load balancer that knows only the first controller, and returns its
// address. It waits until the load balancer knows all controllers.
func start(t *testing.T, c *cluster) (addr string, list *memory) {
	t.Helper()
	list = &memory{list: []netip.AddrPort{c.list[0].addr()}}
	for _, x := range c.list {
		c.all = append(c.all, x.addr())
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = free.Addr().String()
	_ = free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, Config{Listen: addr, Store: list, CheckReady: c.healthy, ListControllers: c.controllers, Log: func(s string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.log = append(c.log, s)
		}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	until(t, "the load balancer to listen", func() bool { conn, err := net.Dial("tcp", addr); return err == nil && conn.Close() == nil })
	until(t, "the list to be saved", func() bool { l, _ := list.Load(); return len(l) == len(c.list) })
	return addr, list
}

// until polls for up to 10 s.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited for %s", what)
}

// ask sends a line on a new connection and returns the name of the controller that answered.
func ask(addr string) string {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	return talk(conn)
}

func talk(conn net.Conn) string {
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	name, _, _ := strings.Cut(line, " ")
	return name
}

func TestServe_ClosesConnectionsOfDeadControllerAndUsesAnother(t *testing.T) {
	a, b := newController(t, "a"), newController(t, "b")
	c := &cluster{list: []*controller{a, b}}
	addr, _ := start(t, c)
	var held []net.Conn
	for range 4 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		held = append(held, conn)
	}
	// A power failure: the controller answers no check, its connections hang.
	var ofA []net.Conn
	for _, conn := range held {
		if talk(conn) == "a" {
			ofA = append(ofA, conn)
		}
	}
	if len(ofA) == 0 || len(ofA) == len(held) {
		t.Fatalf("%d of %d connections lead to a: they are not spread", len(ofA), len(held))
	}
	start := time.Now()
	a.setHealth(errors.New("no answer"))
	for _, conn := range ofA {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a connection to the dead controller is still open: %v", err)
		}
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("closed after %v", took)
	}
	for range 4 {
		if name := ask(addr); name != "b" {
			t.Errorf("a new connection leads to %s", name)
		}
	}
	a.setHealth(nil)
	until(t, "a to be used again", func() bool { return ask(addr) == "a" })
	for _, want := range []string{"is not ready: no answer", "is ready again"} {
		c.mu.Lock()
		if !strings.Contains(strings.Join(c.log, "\n"), want) {
			t.Errorf("the log does not contain %q: %q", want, c.log)
		}
		c.mu.Unlock()
	}
}

func TestServe_SkipsControllerThatRefusesConnections(t *testing.T) {
	a, b := newController(t, "a"), newController(t, "b")
	addr, _ := start(t, &cluster{list: []*controller{a, b}})
	_ = a.ln.Close() // health checks still succeed
	for range 4 {
		if name := ask(addr); name != "b" {
			t.Errorf("answered by %s", name)
		}
	}
}

func TestServe_KeepsForwardingWhenAllControllersAreDead(t *testing.T) {
	a := newController(t, "a")
	c := &cluster{list: []*controller{a}}
	addr, _ := start(t, c)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	a.setHealth(errors.New("not ready"))
	until(t, "the controller to be dead", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.log) > 0 })
	if name := talk(conn); name != "a" {
		t.Errorf("the connection was closed: %s", name)
	}
	if name := ask(addr); name != "a" {
		t.Errorf("a new connection: %s", name)
	}
}

func TestServe_SavesControllersOfTheCluster(t *testing.T) {
	a, b := newController(t, "a"), newController(t, "b")
	c := &cluster{list: []*controller{a, b}}
	_, list := start(t, c)
	want := []netip.AddrPort{a.addr(), b.addr()}
	slices.SortFunc(want, netip.AddrPort.Compare)
	if got, _ := list.Load(); !slices.Equal(got, want) {
		t.Errorf("saved %v, want %v", got, want)
	}
}

func TestPickBackend_PrefersLiveAndLeastBusy(t *testing.T) {
	mk := func(last byte, conns, fails int) *backend {
		return &backend{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 6443), conns: conns, failures: fails}
	}
	all := []*backend{mk(1, 0, 2), mk(2, 5, 0), mk(3, 1, 1), mk(4, 1, 0)}
	var s []string
	var tried []*backend
	for x := pickBackend(all, tried); x != nil; x = pickBackend(all, tried) {
		s, tried = append(s, x.addr.Addr().String()), append(tried, x)
	}
	if strings.Join(s, " ") != "10.0.0.3 10.0.0.4 10.0.0.2 10.0.0.1" {
		t.Error(s)
	}
}

func TestAcquireBackend_SpreadsConcurrentConnections(t *testing.T) {
	b := &balancer{backends: []*backend{{}, {}, {}}}
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { b.acquireBackend(nil) }) // none of them is established yet
	}
	all.Wait()
	for i, x := range b.backends {
		if x.conns != 10 {
			t.Errorf("controller %d gets %d connections of 30", i, x.conns)
		}
	}
}

func TestRefreshControllers_IgnoresEmptyList(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &balancer{Config: Config{Store: &memory{}, Log: func(string) { t.Error("changed") },
		ListControllers: func(context.Context) ([]netip.AddrPort, error) { cancel(); return nil, nil }}, conns: map[*connPair]bool{}}
	b.backends = []*backend{{addr: netip.MustParseAddrPort("10.0.0.1:6443")}}
	b.refreshControllers(ctx)
	if len(b.backends) != 1 {
		t.Error("the list was emptied")
	}
}

func TestRefreshControllers_FindsOthersWhenNoneAnswers(t *testing.T) {
	old, next := netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("10.0.0.9:6443")
	find := func(list []netip.AddrPort, err error) func(context.Context) ([]netip.AddrPort, error) {
		return func(context.Context) ([]netip.AddrPort, error) { return list, err }
	}
	silent := errors.New("no answer")
	for name, c := range map[string]struct {
		find   func(context.Context) ([]netip.AddrPort, error)
		stored []netip.AddrPort // since the start, by another program
		want   netip.AddrPort
	}{
		"nothing else is known":            {nil, []netip.AddrPort{old}, old},
		"the stored list was changed":      {nil, []netip.AddrPort{next}, next},
		"the stored list was emptied":      {nil, nil, old},
		"at the additional address":        {find([]netip.AddrPort{next}, nil), []netip.AddrPort{old}, next},
		"the additional address is silent": {find(nil, silent), []netip.AddrPort{next}, next},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			b := &balancer{Config: Config{Store: &memory{list: c.stored}, Log: func(string) {}, FindControllers: c.find,
				ListControllers: func(context.Context) ([]netip.AddrPort, error) { cancel(); return nil, silent }}, conns: map[*connPair]bool{},
				stored: []netip.AddrPort{old}, backends: []*backend{{addr: old}}}
			b.refreshControllers(ctx)
			if len(b.backends) != 1 || b.backends[0].addr != c.want {
				t.Errorf("%v", b.backends[0].addr)
			}
		})
	}
}

func TestControllersFile_IsPrivateAndStrict(t *testing.T) {
	h := hosttest.New(t).Host()
	f := ControllersFile{Files: h, Path: "/var/lib/plinth/controllers.json"}
	if l, err := f.Load(); l != nil || err != nil {
		t.Errorf("no file: %v %v", l, err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:6443"), netip.MustParseAddrPort("[2001:db8::1]:6443")}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Load(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if info, err := h.Lstat(f.Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	for _, bad := range []string{`{"version":2}`, `{"version":1,"controllers":["nowhere"]}`, `{`, ``} {
		t.Run("refuses "+bad, func(t *testing.T) {
			if err := h.Write(f.Path, strings.NewReader(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			if l, err := f.Load(); err == nil || !strings.Contains(err.Error(), f.Path) {
				t.Errorf("%v %v", l, err)
			}
		})
	}
	if err := Serve(t.Context(), Config{Store: ControllersFile{Files: h, Path: "/nowhere"}}); err == nil || !strings.Contains(err.Error(), "no controller") {
		t.Errorf("without a list: %v", err)
	}
}

func FuzzControllersFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"controllers":["10.0.0.1:6443"]}`))
	f.Add([]byte(`{"version":1,"controllers":[":1"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ControllersFile{Files: one(raw)}.Load()
		for _, a := range list {
			if err == nil && !a.IsValid() {
				t.Errorf("%q gave %v", raw, list)
			}
		}
	})
}

// one is a FileAccess to one file content.
type one []byte

func (o one) ReadFile(string) ([]byte, error)            { return o, nil }
func (o one) Write(string, io.Reader, fs.FileMode) error { return nil }
