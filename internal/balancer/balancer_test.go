package balancer

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

// controller is a server that says its own name on each line it gets.
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

func (c *controller) is(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sick = err
}

// cluster is what a balancer under test stands before.
type cluster struct {
	list []*controller
	mu   sync.Mutex
	all  []netip.AddrPort // what the cluster tells of itself
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

// start runs a balancer that knows only the first controller, and gives its door.
func start(t *testing.T, c *cluster) (door string, list *memory) {
	t.Helper()
	list = &memory{list: []netip.AddrPort{c.list[0].addr()}}
	for _, x := range c.list {
		c.all = append(c.all, x.addr())
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door = free.Addr().String()
	_ = free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Listen: door, List: list, Healthy: c.healthy, Controllers: c.controllers, Log: func(s string) {
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
	until(t, "the door to open", func() bool { conn, err := net.Dial("tcp", door); return err == nil && conn.Close() == nil })
	until(t, "the list to be kept", func() bool { l, _ := list.Load(); return len(l) == len(c.list) })
	return door, list
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

// ask sends a line on a new connection and tells who answered.
func ask(door string) string {
	conn, err := net.Dial("tcp", door)
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
	who, _, _ := strings.Cut(line, " ")
	return who
}

func TestConnectionsOfADeadControllerAreCutAndNewOnesLeadElsewhere(t *testing.T) {
	a, b := newController(t, "a"), newController(t, "b")
	c := &cluster{list: []*controller{a, b}}
	door, _ := start(t, c)
	var held []net.Conn
	for range 4 {
		conn, err := net.Dial("tcp", door)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		held = append(held, conn)
	}
	// A power cut: the controller answers no question, its connections hang.
	var ofA []net.Conn
	for _, conn := range held {
		if talk(conn) == "a" {
			ofA = append(ofA, conn)
		}
	}
	if len(ofA) == 0 || len(ofA) == len(held) {
		t.Fatalf("%d of %d connections go to a: they are not spread", len(ofA), len(held))
	}
	begun := time.Now()
	a.is(errors.New("no answer"))
	for _, conn := range ofA {
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a connection to the dead controller stays: %v", err)
		}
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("cut after %v", took)
	}
	for range 4 {
		if who := ask(door); who != "b" {
			t.Errorf("a new connection leads to %s", who)
		}
	}
	a.is(nil)
	until(t, "a to be used again", func() bool { return ask(door) == "a" })
	for _, want := range []string{"does not serve: no answer", "serves again"} {
		c.mu.Lock()
		if !strings.Contains(strings.Join(c.log, "\n"), want) {
			t.Errorf("the log lacks %q: %q", want, c.log)
		}
		c.mu.Unlock()
	}
}

func TestAControllerThatRefusesIsPassedOverAtOnce(t *testing.T) {
	a, b := newController(t, "a"), newController(t, "b")
	door, _ := start(t, &cluster{list: []*controller{a, b}})
	_ = a.ln.Close() // still called healthy
	for range 4 {
		if who := ask(door); who != "b" {
			t.Errorf("answered by %s", who)
		}
	}
}

func TestWhenAllAreSickTheDoorStaysOpen(t *testing.T) {
	a := newController(t, "a")
	c := &cluster{list: []*controller{a}}
	door, _ := start(t, c)
	conn, err := net.Dial("tcp", door)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	a.is(errors.New("not ready"))
	until(t, "the verdict", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.log) > 0 })
	if who := talk(conn); who != "a" {
		t.Errorf("the connection was cut: %s", who)
	}
	if who := ask(door); who != "a" {
		t.Errorf("a new connection: %s", who)
	}
}

func TestTheListFollowsTheClusterAndIsKept(t *testing.T) {
	a, b := newController(t, "a"), newController(t, "b")
	c := &cluster{list: []*controller{a, b}}
	_, list := start(t, c)
	want := []netip.AddrPort{a.addr(), b.addr()}
	slices.SortFunc(want, netip.AddrPort.Compare)
	if got, _ := list.Load(); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

func TestTheLivingAndTheLeastBusyArePreferred(t *testing.T) {
	mk := func(last byte, conns, fails int) *backend {
		return &backend{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 6443), conns: conns, fails: fails}
	}
	all := []*backend{mk(1, 0, 2), mk(2, 5, 0), mk(3, 1, 1), mk(4, 1, 0)}
	var s []string
	var tried []*backend
	for x := pick(all, tried); x != nil; x = pick(all, tried) {
		s, tried = append(s, x.addr.Addr().String()), append(tried, x)
	}
	if strings.Join(s, " ") != "10.0.0.3 10.0.0.4 10.0.0.2 10.0.0.1" {
		t.Error(s)
	}
}

func TestConnectionsThatComeTogetherAreSpread(t *testing.T) {
	b := &balancer{backends: []*backend{{}, {}, {}}}
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { b.take(nil) }) // none of them stands yet
	}
	all.Wait()
	for i, x := range b.backends {
		if x.conns != 10 {
			t.Errorf("controller %d gets %d connections of 30", i, x.conns)
		}
	}
}

func TestAnEmptyAnswerOfTheClusterChangesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := &balancer{Config: Config{List: &memory{}, Log: func(string) { t.Error("changed") },
		Controllers: func(context.Context) ([]netip.AddrPort, error) { cancel(); return nil, nil }}, conns: map[*pair]bool{}}
	b.backends = []*backend{{addr: netip.MustParseAddrPort("10.0.0.1:6443")}}
	b.refresh(ctx)
	if len(b.backends) != 1 {
		t.Error("the list was emptied")
	}
}

func TestTheFileOfTheListIsPrivateAndStrict(t *testing.T) {
	h := hosttest.New(t).Host()
	f := File{Files: h, Path: "/var/lib/plinth/controllers.json"}
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
		if err := h.Write(f.Path, strings.NewReader(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := f.Load(); err == nil || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("%q: %v %v", bad, l, err)
		}
	}
	if err := Run(t.Context(), Config{List: File{Files: h, Path: "/nowhere"}}); err == nil || !strings.Contains(err.Error(), "no controller") {
		t.Errorf("without a list: %v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(`{"version":1,"controllers":["10.0.0.1:6443"]}`))
	f.Add([]byte(`{"version":1,"controllers":[":1"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := File{Files: one(raw)}.Load()
		for _, a := range list {
			if err == nil && !a.IsValid() {
				t.Errorf("%q gave %v", raw, list)
			}
		}
	})
}

// one is a Files that holds one content.
type one []byte

func (o one) ReadFile(string) ([]byte, error)            { return o, nil }
func (o one) Write(string, io.Reader, fs.FileMode) error { return nil }
