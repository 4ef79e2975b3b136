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

// layers names the rooms and says which others each may import; problem is
// open to all. A package below a room belongs to it. Arrows go down only.
var layers = map[string][]string{
	"cmd/plinth":         {"internal/cli"},
	"internal/cli":       {"internal/app", "internal/ui", "internal/spec", "internal/step", "airgap", "hostpreflight"},
	"internal/app":       {"*"},
	"internal/plan":      {"internal/step", "internal/host", "internal/node", "internal/k0s", "internal/images", "internal/kube", "internal/chart", "internal/kots", "internal/wait", "addons"},
	"internal/step":      {},
	"internal/failpoint": {"internal/host"},
	"internal/journal":   {"internal/host", "internal/wait"},
	"internal/spec":      {"internal/compat"},
	"internal/compat":    {},
	"internal/facts":     {},
	"internal/probe":     {"internal/facts", "internal/host"},
	"hostpreflight":      {"internal/facts"},
	"internal/host":      {},
	"internal/node":      {"internal/host", "internal/wait"},
	"internal/k0s":       {"internal/host", "internal/spec", "internal/wait"},
	"internal/images":    {"internal/wait"},
	"internal/balancer":  {},
	"internal/etcd":      {},
	"internal/kube":      {"internal/wait"},
	"internal/chart":     {"internal/kube", "internal/wait"},
	"internal/kots":      {"internal/host", "internal/kube", "internal/wait"},
	"addons":             {"internal/spec"},
	"airgap":             {},
	"internal/ui":        {"internal/step"},
	"internal/token":     {},
	"internal/agent":     {"internal/token", "internal/wait", "airgap"},
	"internal/wait":      {},
	"internal/problem":   {},
}

// room is the listed room that a package belongs to.
func room(pkg string) string {
	for p := pkg; p != "." && p != "/"; p = path.Dir(p) {
		if _, ok := layers[p]; ok {
			return p
		}
	}
	return ""
}

// doors names the packages that may use what changes or measures the machine.
var doors = map[string][]string{
	"os/exec":               {"internal/host", "internal/probe"},
	"syscall":               {"internal/host", "internal/probe", "cmd/plinth"},
	"golang.org/x/sys/unix": {"internal/host", "internal/probe", "airgap"}, // airgap: files without a name until they are whole
}

// budgets, and the named exceptions to them.
const (
	maxPackageLines  = 800
	maxFileLines     = 400
	maxFunctionLines = 80
	p90FunctionLines = 40
	maxParameters    = 5
	maxMethods       = 6
)

var exceptions = map[string]string{
	"airgap":        "30 lines over: a bundle in a file and one that nodes hold are one thing with the same insides",
	"internal/host": "30 lines over: it is the one door to the machine, and a second door would be worse",
	"internal/kube": "20 lines over: the waits and the looks at a cluster share their reasons, which a split would part",
}

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

func TestImportsGoOnlyWhereTheHouseAllows(t *testing.T) {
	for _, f := range product(t) {
		for _, imp := range f.ast.Imports {
			target, _ := strconv.Unquote(imp.Path.Value)
			if allowed, ok := doors[target]; ok && !slices.Contains(allowed, room(f.pkg)) {
				t.Errorf("%s imports %s: only %v may", f.path, target, allowed)
			}
			ours, ok := strings.CutPrefix(target, module)
			from, to := room(f.pkg), room(ours)
			if !ok || to == "internal/problem" || from == to && from != "" {
				continue
			}
			if allowed := layers[from]; !slices.Contains(allowed, to) && !slices.Contains(allowed, "*") {
				t.Errorf("%s imports %s: the house does not allow it (layers)", f.path, ours)
			}
		}
	}
}

func TestSourcesStayWithinTheirBudgets(t *testing.T) {
	perPackage := map[string]int{}
	var functions []int
	for _, f := range product(t) {
		perPackage[f.pkg] += f.lines
		over(t, f.path, "file", f.lines, maxFileLines)
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				name := f.path + ":" + fn.Name.Name
				n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
				functions = append(functions, n)
				over(t, name, "function", n, maxFunctionLines)
				over(t, name, "parameters of", fn.Type.Params.NumFields(), maxParameters)
				if fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s: init() is not wanted", f.path)
				}
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if ts, ok := n.(*ast.TypeSpec); ok {
				if it, ok := ts.Type.(*ast.InterfaceType); ok {
					over(t, f.path+":"+ts.Name.Name, "interface", it.Methods.NumFields(), maxMethods)
				}
			}
			return true
		})
	}
	for pkg, n := range perPackage {
		over(t, pkg, "package", n, maxPackageLines)
	}
	sort.Ints(functions)
	if p90 := functions[len(functions)*9/10]; p90 > p90FunctionLines {
		t.Errorf("90 %% of functions should have at most %d lines, it is %d", p90FunctionLines, p90)
	}
}

func over(t *testing.T, name, what string, n, limit int) {
	t.Helper()
	if _, ok := exceptions[name]; !ok && n > limit {
		t.Errorf("%s %s: %d, budget %d", what, name, n, limit)
	}
}

// calls that only certain packages may make.
var calls = map[string][]string{
	"os.Exit":            {"cmd/plinth"},
	"context.Background": {"cmd/plinth"},
	"context.TODO":       {},
	"time.Sleep":         {"internal/wait"},
	"os.WriteFile":       {"internal/host"},
	"os.Create":          {"internal/host"},
	"os.Remove":          {"internal/host", "airgap"},
	"os.RemoveAll":       {"internal/host"},
	"os.Rename":          {"internal/host", "airgap"},
	"os.Mkdir":           {"internal/host"},
	"os.MkdirAll":        {"internal/host", "airgap"}, // airgap: the folder of blobs that a bundle is built from
	"os.Chmod":           {"internal/host"},
	"os.Symlink":         {"internal/host"},
	"os.OpenFile":        {"internal/host", "airgap"}, // airgap: a download that goes on where it was cut
	"os.CreateTemp":      {"internal/host", "airgap"}, // airgap: the bundle being built, beside its final name
	"fmt.Println":        {},
	"fmt.Printf":         {},
}

func TestEffectsGoThroughTheirDoor(t *testing.T) {
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
			if allowed, ok := calls[call]; ok && !slices.Contains(allowed, room(f.pkg)) {
				t.Errorf("%s: %s belongs to %v", f.fset.Position(n.Pos()), call, allowed)
			}
			return true
		})
	}
}

// untold are the waits whose end nobody is told of, by what they wait for.
var untold = []string{
	"the console's refusal",          // runs beside the installation that it may end
	"the pods' programs to end",      // what does not end is killed then
	"k0s to become a member of etcd", // what does not is begun anew
}

func TestAWaitThatTakesTooLongNamesTheNextCommand(t *testing.T) {
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
			if !slices.ContainsFunc(lit.Elts, tells) {
				t.Errorf("%s: this wait names no command that shows more (Next)", f.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

// tells reports whether a field of wait.Options is the next command, or says that
// none is needed.
func tells(e ast.Expr) bool {
	kv, ok := e.(*ast.KeyValueExpr)
	if !ok {
		return false
	}
	if key, _ := kv.Key.(*ast.Ident); key != nil && key.Name == "Next" {
		return true
	}
	what, ok := kv.Value.(*ast.BasicLit)
	if !ok {
		return false
	}
	text, err := strconv.Unquote(what.Value)
	return err == nil && slices.Contains(untold, text)
}

func TestEveryPackageSaysWhatItOwnsAndRefuses(t *testing.T) {
	doc := map[string]string{}
	for _, f := range product(t) {
		doc[f.pkg] += f.ast.Doc.Text()
	}
	for pkg, text := range doc {
		if pkg == "cmd/plinth" {
			continue
		}
		if !strings.Contains(text, "refuses") {
			t.Errorf("%s: its package comment must say what it owns and what it refuses; it says %q", pkg, text)
		}
	}
}

func TestPackageVariablesAreConstantTables(t *testing.T) {
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

func TestExportedNamesHaveADocComment(t *testing.T) {
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

// onUnexported reports whether fn is a method of an unexported type, whose
// meaning is that of the interface it implements.
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
