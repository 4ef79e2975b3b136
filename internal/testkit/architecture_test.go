package testkit

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/plinthdev/plinth/"

// layers lists, for each area of the product, the areas that it may import;
// internal/problem is open to all. A package below an area belongs to it, unless
// it is listed itself. Imports go down only.
var layers = map[string][]string{
	"cmd/plinth":            {"internal/cli"},
	"internal/cli":          {"internal/cli/printer", "internal/action", "internal/objectstore", "internal/ui", "internal/spec", "internal/step", "airgap", "hostpreflight"},
	"internal/cli/printer":  {"internal/action", "internal/diagnosis", "internal/kurl", "internal/lockfile", "internal/objectstore", "internal/ui", "internal/spec", "internal/step", "airgap", "hostpreflight"},
	"internal/plan":         {"internal/step", "internal/firewall", "internal/host", "internal/ports", "internal/node", "internal/nodecert", "internal/pki", "internal/token", "internal/k0s", "internal/etcd", "internal/images", "internal/kube", "internal/helm", "internal/kots", "internal/registry", "internal/upgrade", "internal/velero", "internal/wait", "addons"},
	"internal/step":         {},
	"internal/failpoint":    {"internal/host"},
	"internal/journal":      {"internal/host", "internal/wait"},
	"internal/spec":         {"internal/compat", "internal/ports", "internal/release", "internal/strictyaml"},
	"internal/release":      {},
	"internal/kurl":         {"internal/spec", "internal/strictyaml"},
	"internal/strictyaml":   {},
	"internal/lockfile":     {"internal/spec", "internal/strictyaml"},
	"internal/compat":       {},
	"internal/ports":        {},
	"internal/firewall":     {},
	"internal/facts":        {"internal/resolvconf"},
	"internal/probe":        {"internal/facts", "internal/host", "internal/resolvconf"},
	"internal/resolvconf":   {},
	"internal/peercheck":    {"internal/facts", "internal/ports"},
	"hostpreflight":         {"internal/facts", "internal/firewall", "internal/ports", "internal/resolvconf"},
	"internal/diagnosis":    {"internal/facts", "hostpreflight"},
	"internal/host":         {},
	"internal/node":         {"internal/firewall", "internal/host", "internal/nodecert", "internal/pki", "internal/wait"},
	"internal/k0s":          {"internal/host", "internal/nodecert", "internal/pki", "internal/ports", "internal/resolvconf", "internal/spec", "internal/wait"},
	"internal/images":       {"internal/wait"},
	"internal/loadbalancer": {"internal/host", "internal/k0s", "internal/kube", "internal/ports"},
	"internal/etcd":         {"internal/ports"},
	"internal/agekey":       {},
	"internal/backup":       {},
	"internal/objectstore":  {"internal/host"},
	"internal/upgrade":      {"internal/compat", "internal/spec"},
	"internal/kube":         {"internal/token", "internal/upgrade", "internal/wait"},
	"internal/helm":         {"internal/kube", "internal/upgrade", "internal/wait"},
	"internal/charts":       {"addons", "internal/helm", "internal/k0s", "internal/kube", "internal/ports", "internal/spec", "internal/upgrade"},
	"internal/kots":         {"internal/host", "internal/kube", "internal/pki", "internal/release", "internal/wait"},
	"internal/registry":     {"internal/kube", "internal/servingcert"},
	"internal/servingcert":  {"internal/kube", "internal/pki"},
	"internal/velero":       {"internal/kube", "internal/servingcert", "internal/wait"},
	"internal/pki":          {},
	"internal/nodecert":     {"internal/pki", "internal/token"},
	"addons":                {"internal/spec"},
	"airgap":                {},
	"internal/ui":           {"internal/step"},
	"internal/token":        {},
	"internal/trace":        {"internal/step"},
	"internal/agent":        {"internal/nodecert", "internal/ports", "internal/token", "internal/wait", "airgap"},
	"internal/wait":         {},
	"internal/problem":      {},
	"scripts":               {},

	"internal/supportbundle": {},
	"internal/supportspec":   {"internal/strictyaml", "internal/supportbundle"},

	// Actions may import every area below them ("*"), and of each other only these.
	"internal/action":              {"*"},
	"internal/action/config":       {"*"},
	"internal/action/certificates": {"*", "internal/action", "internal/action/nodes"},
	"internal/action/source":       {"*", "internal/action", "internal/action/config"},
	"internal/action/desired":      {"*", "internal/action", "internal/action/config"},
	"internal/action/planfile":     {"*", "internal/action"},
	"internal/action/preflight":    {"*", "internal/action", "internal/action/config", "internal/action/desired", "internal/action/source"},
	"internal/action/nodes":        {"*", "internal/action"},
	"internal/action/bundle":       {"*", "internal/action/config", "internal/action/source"},
	"internal/action/console":      {"*", "internal/action", "internal/action/config", "internal/action/desired"},
	"internal/action/faulttest":    {"*", "internal/action"},
	"internal/action/reset":        {"*", "internal/action", "internal/action/nodes"},
	"internal/action/install":      {"*", "internal/action", "internal/action/config", "internal/action/desired", "internal/action/planfile", "internal/action/preflight", "internal/action/reset", "internal/action/source", "internal/action/upgrade"},
	"internal/action/upgrade":      {"*", "internal/action", "internal/action/config", "internal/action/desired", "internal/action/planfile", "internal/action/preflight", "internal/action/source"},
	"internal/action/join":         {"*", "internal/action", "internal/action/config", "internal/action/desired", "internal/action/preflight", "internal/action/source"},
	"internal/action/agent":        {"*", "internal/action", "internal/action/certificates", "internal/action/desired", "internal/action/metrics", "internal/action/nodes", "internal/action/preflight"},
	"internal/action/metrics":      {"*", "internal/action", "internal/action/backup", "internal/action/certificates"},
	"internal/action/backup":       {"*", "internal/action", "internal/action/desired"},
	"internal/action/repair":       {"*", "internal/action", "internal/action/desired", "internal/action/preflight"},
	"internal/action/restore":      {"*", "internal/action", "internal/action/backup", "internal/action/desired", "internal/action/install", "internal/action/preflight", "internal/action/source"},
	"internal/action/support":      {"*", "internal/action", "internal/action/certificates", "internal/action/desired", "internal/action/nodes", "internal/action/status"},
	"internal/action/status":       {"*", "internal/action", "internal/action/backup", "internal/action/certificates", "internal/action/desired", "internal/action/nodes"},
	"internal/action/tokens":       {"*", "internal/action", "internal/action/agent", "internal/action/desired"},
}

// area returns the listed area that a package belongs to; "" for none.
func area(pkg string) string {
	for p := pkg; p != "." && p != "/"; p = path.Dir(p) {
		if _, ok := layers[p]; ok {
			return p
		}
	}
	return ""
}

// allowed reports whether a package of one area may import a package of another.
func allowed(from, to string) bool {
	if to == "internal/problem" || from == to && from != "" || slices.Contains(layers[from], to) {
		return true
	}
	isAction := to == "internal/action" || strings.HasPrefix(to, "internal/action/")
	above := to == "internal/cli" || to == "internal/cli/printer" || to == "cmd/plinth"
	switch {
	case slices.Contains(layers[from], "*"):
		return to != "" && !isAction && !above
	case isAction:
		return slices.Contains(layers[from], "internal/action") && !strings.HasPrefix(from, "internal/action")
	}
	return false
}

// effects lists the areas that may import what changes or measures the machine.
var effects = map[string][]string{
	"os/exec":               {"internal/host", "internal/probe"},
	"syscall":               {"internal/host", "internal/probe", "internal/peercheck", "cmd/plinth"},
	"golang.org/x/sys/unix": {"internal/host", "internal/probe", "internal/peercheck", "airgap"}, // airgap: files without a name until they are complete
}

// Limits of one file, function and interface. A file above its limit is
// reported and does not fail.
const (
	warnFileLines    = 500
	maxFunctionLines = 80
	p90FunctionLines = 40
	maxParameters    = 5
	maxMethods       = 6
)

// exceptions lists what is above a limit, with the exact number that it has. One
// that shrinks or grows fails, so that the list stays true.
var exceptions = map[string]int{}

// goFile is one source file of the product.
type goFile struct {
	path, pkg string // both relative to the repository
	lines     int
	ast       *ast.File
	fset      *token.FileSet
}

// product reads the sources of the product: no tests, no build tools, no e2e.
func product(t *testing.T) []goFile {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []goFile
	for _, top := range []string{"cmd", "internal", "addons", "hostpreflight", "airgap"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") || strings.Contains(p, "testdata") || strings.Contains(p, "testkit") {
				return err
			}
			src, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, p, src, parser.ParseComments)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, p)
			files = append(files, goFile{path: rel, pkg: path.Dir(filepath.ToSlash(rel)), lines: strings.Count(string(src), "\n"), ast: f, fset: fset})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) == 0 {
		t.Fatal("no sources found")
	}
	return files
}

func TestArchitecture_ImportsGoDownOnly(t *testing.T) {
	for _, f := range product(t) {
		for _, imp := range f.ast.Imports {
			target, _ := strconv.Unquote(imp.Path.Value)
			if users, ok := effects[target]; ok && !slices.Contains(users, area(f.pkg)) {
				t.Errorf("%s imports %s: only %v may", f.path, target, users)
			}
			ours, ok := strings.CutPrefix(target, module)
			if ok && !allowed(area(f.pkg), area(ours)) {
				t.Errorf("%s imports %s: the table of layers does not allow it", f.path, ours)
			}
		}
	}
}

func TestArchitecture_LayersHaveNoCycle(t *testing.T) {
	done := map[string]bool{}
	var visit func(name string, above []string)
	visit = func(name string, above []string) {
		if slices.Contains(above, name) {
			t.Fatalf("the table of layers has a cycle: %v", append(above, name))
		}
		if done[name] {
			return
		}
		for _, below := range layers[name] {
			if below != "*" {
				if _, ok := layers[below]; !ok {
					t.Errorf("%s may import %s, which is not in the table", name, below)
				}
				visit(below, append(above, name))
			}
		}
		done[name] = true
	}
	for name := range layers {
		visit(name, nil)
	}
}

func TestArchitecture_SourcesStayWithinLimits(t *testing.T) {
	var functions []int
	used := map[string]bool{}
	limit := func(name, what string, n, most int) {
		t.Helper()
		number, listed := exceptions[name]
		used[name] = used[name] || listed
		switch {
		case listed && n != number:
			t.Errorf("%s %s: %d, and the list of exceptions says %d", what, name, n, number)
		case !listed && n > most:
			t.Errorf("%s %s: %d, at most %d", what, name, n, most)
		}
	}
	for _, f := range product(t) {
		if f.lines > warnFileLines {
			t.Logf("warning: %s has %d lines, more than %d", f.path, f.lines, warnFileLines)
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				name := f.path + ":" + fn.Name.Name
				n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
				functions = append(functions, n)
				limit(name, "lines of", n, maxFunctionLines)
				limit(name+":parameters", "parameters of", fn.Type.Params.NumFields(), maxParameters)
				if fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s: init() is not allowed", f.path)
				}
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if ts, ok := n.(*ast.TypeSpec); ok {
				if it, ok := ts.Type.(*ast.InterfaceType); ok {
					limit(f.path+":"+ts.Name.Name, "methods of", it.Methods.NumFields(), maxMethods)
				}
			}
			return true
		})
	}
	for name := range exceptions {
		if !used[name] {
			t.Errorf("the exception %s names nothing in the tree", name)
		}
	}
	sort.Ints(functions)
	if p90 := functions[len(functions)*9/10]; p90 > p90FunctionLines {
		t.Errorf("90 %% of functions should have at most %d lines, it is %d", p90FunctionLines, p90)
	}
}

// calls that only certain packages may make.
var calls = map[string][]string{
	"os.Exit":            {"cmd/plinth"},
	"context.Background": {"cmd/plinth"},
	"context.TODO":       {},
	"time.Sleep":         {"internal/wait"},
	"time.After":         {"internal/probe", "internal/action/faulttest", "airgap"}, // others use wait.ForReply or wait.Sleep
	"bolt.Open":          {"internal/etcd"},                                         // it writes its file
	"os.WriteFile":       {"internal/host"},
	"os.Create":          {"internal/host"},
	"os.Remove":          {"internal/host", "airgap"},
	"os.RemoveAll":       {"internal/host"},
	"os.Rename":          {"internal/host", "airgap"},
	"os.Mkdir":           {"internal/host"},
	"os.MkdirAll":        {"internal/host", "airgap"}, // airgap: the folder of blobs from which a bundle is built
	"os.Chmod":           {"internal/host"},
	"os.Symlink":         {"internal/host"},
	"os.OpenFile":        {"internal/host", "airgap"}, // airgap: a download that resumes
	"os.CreateTemp":      {"internal/host", "airgap"}, // airgap: the bundle being built, beside its final name
	"fmt.Println":        {},
	"fmt.Printf":         {},
}

func TestArchitecture_EffectsStayInHost(t *testing.T) {
	for _, f := range product(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			id, ok := sel.X.(*ast.Ident)
			if !ok || id.Obj != nil {
				return true
			}
			call := id.Name + "." + sel.Sel.Name
			if users, ok := calls[call]; ok && !slices.Contains(users, area(f.pkg)) {
				t.Errorf("%s: %s belongs to %v", f.fset.Position(n.Pos()), call, users)
			}
			return true
		})
	}
}

// withoutNext lists the waits whose timeout no user sees, by what they wait for.
var withoutNext = []string{
	"the console's refusal",          // runs beside the installation that it may end
	"the pods' programs to end",      // a program that does not end is killed
	"k0s to become a member of etcd", // the join is repeated
}

func TestWaitOptions_NameTheNextCommand(t *testing.T) {
	for _, f := range product(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			of, ok := lit.Type.(*ast.SelectorExpr)
			if !ok || of.Sel.Name != "Options" {
				return true
			}
			if from, _ := of.X.(*ast.Ident); from == nil || from.Name != "wait" {
				return true
			}
			if !slices.ContainsFunc(lit.Elts, hasNext) {
				t.Errorf("%s: this wait does not name a command that shows more (NextCommand)", f.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

// hasNext reports whether a field of wait.Options is the next command, or a text
// that needs none.
func hasNext(e ast.Expr) bool {
	kv, ok := e.(*ast.KeyValueExpr)
	if !ok {
		return false
	}
	if key, _ := kv.Key.(*ast.Ident); key != nil && key.Name == "NextCommand" {
		return true
	}
	what, ok := kv.Value.(*ast.BasicLit)
	if !ok {
		return false
	}
	text, err := strconv.Unquote(what.Value)
	return err == nil && slices.Contains(withoutNext, text)
}

func TestPackageComment_ExistsOncePerPackage(t *testing.T) {
	comments := map[string][]string{}
	for _, f := range product(t) {
		if text := f.ast.Doc.Text(); text != "" {
			comments[f.pkg] = append(comments[f.pkg], text)
		} else if comments[f.pkg] == nil {
			comments[f.pkg] = []string{}
		}
	}
	for pkg, texts := range comments {
		if len(texts) != 1 {
			t.Errorf("%s has %d package comments, want 1: %q", pkg, len(texts), texts)
		} else if want := "Package " + path.Base(pkg) + " "; !strings.HasPrefix(texts[0], want) && pkg != "cmd/plinth" {
			t.Errorf("%s: the package comment should begin with %q: %q", pkg, want, texts[0])
		}
	}
}

func TestPackageVariables_AreNeverAssigned(t *testing.T) {
	for _, f := range product(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			assign, ok := n.(*ast.AssignStmt)
			if !ok {
				return true
			}
			for _, left := range assign.Lhs {
				if id, ok := left.(*ast.Ident); ok && assign.Tok == token.ASSIGN && packageLevel(f, id) {
					t.Errorf("%s: package variable %s is changed", f.fset.Position(n.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

// packageLevel reports whether id names a variable declared at the top of f.
func packageLevel(f goFile, id *ast.Ident) bool {
	if id.Obj == nil || id.Obj.Kind != ast.Var {
		return false
	}
	obj := f.ast.Scope.Lookup(id.Name)
	return obj == id.Obj
}

func TestExportedNames_HaveDocComments(t *testing.T) {
	for _, f := range product(t) {
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && !onUnexported(d) {
					t.Errorf("%s: %s has no doc comment", f.fset.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
						t.Errorf("%s: %s has no doc comment", f.fset.Position(ts.Pos()), ts.Name.Name)
					}
				}
			}
		}
	}
}

// onUnexported reports whether fn is a method of an unexported type: its meaning
// is that of the interface that it implements.
func onUnexported(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return false
	}
	name := fmt.Sprint(receiver(fn.Recv.List[0].Type))
	return !ast.IsExported(name)
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}
