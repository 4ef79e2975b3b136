package testkit

import (
	"go/ast"
	"regexp"
	"testing"
)

// Ceilings and floors of the product's names and comments, in percent, and of
// its packages. The codebases that set the style are at 4 to 13 % of one-word
// function names.
const (
	maxOneWordNames    = 15
	minReturnsComments = 25
	maxPackages        = 92
)

func TestStyle_FunctionNamesAreVerbAndObject(t *testing.T) {
	oneWord := regexp.MustCompile(`^[a-z0-9]+$`)
	var all, short int
	for _, f := range product(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				all++
				if oneWord.MatchString(fn.Name.Name) {
					short++
				}
			}
		}
	}
	t.Logf("%d of %d function names are one lower-case word (%.1f %%)", short, all, 100*float64(short)/float64(all))
	if 100*short >= maxOneWordNames*all {
		t.Errorf("%d of %d function names are one lower-case word; below %d %% are wanted", short, all, maxOneWordNames)
	}
}

func TestStyle_DocCommentsNameTheResult(t *testing.T) {
	opens := regexp.MustCompile(`^\S+ (returns|reports) `)
	var all, plain int
	for _, f := range product(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil {
				all++
				if opens.MatchString(fn.Doc.Text()) {
					plain++
				}
			}
		}
	}
	t.Logf("%d of %d doc comments of functions open with returns or reports (%.1f %%)", plain, all, 100*float64(plain)/float64(all))
	if 100*plain <= minReturnsComments*all {
		t.Errorf("%d of %d doc comments of functions open with returns or reports; more than %d %% are wanted", plain, all, minReturnsComments)
	}
}

func TestStyle_PackagesStayFew(t *testing.T) {
	packages := map[string]bool{}
	for _, f := range product(t) {
		packages[f.pkg] = true
	}
	t.Logf("%d packages", len(packages))
	if len(packages) > maxPackages {
		t.Errorf("%d packages, at most %d: a package that only one other imports needs a reason", len(packages), maxPackages)
	}
}
