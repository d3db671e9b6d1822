package code

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestEveryCodeHasText looks for codes in the source of the agent and of the drivers: constants named Code…, what
// stands in a Health, a Fault or a DeviceEvent, and this package's own. Each has its text.
func TestEveryCodeHasText(t *testing.T) {
	t.Parallel()
	said := codesIn(t, "../../agent", "../../hardware", ".")
	for _, c := range said {
		if f := Of(Code(c)); f.Cause == "" {
			t.Errorf("%s can be said, and has no text", c)
		}
	}
	for _, want := range []Code{StorageFull, PrinterPaperOut, ReaderMalfunction, TerminalDiagnosis, CashJammed, SensorLost, Door, CashOwed} {
		if !slices.Contains(said, string(want)) {
			t.Errorf("%s was not found: the search has a hole", want)
		}
	}
}

// noFaults are constants named Code… that are none: a device that is well, and reasons that the agent says with
// "scanner." before them.
var noFaults = []string{"ready", "code_stale", "code_too_long", "code_garbled", "code_torn"}

func codesIn(t *testing.T, dirs ...string) []string {
	t.Helper()
	files := token.NewFileSet()
	all := map[string][]*ast.File{} // by folder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if err == nil && (d.Name() == "virtual" || d.Name() == "hardwaretest") { // far ends
					return filepath.SkipDir
				}
				return err
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(files, path, nil, 0)
			if err == nil {
				all[filepath.Dir(path)] = append(all[filepath.Dir(path)], f)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var said []string
	for dir, list := range all {
		named := constants(list)
		for name, text := range named {
			if strings.HasPrefix(name, "Code") && !slices.Contains(noFaults, text) {
				said = append(said, text)
			}
		}
		for _, f := range list {
			if dir == "." { // our own: those of type Code
				said = append(said, ofType(f, "Code")...)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				c, ok := n.(*ast.CompositeLit)
				if !ok || !slices.Contains([]string{"Health", "Fault", "DeviceEvent"}, lastName(c.Type)) {
					return true
				}
				for _, e := range c.Elts {
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok || lastName(kv.Key) != "Code" {
						continue
					}
					switch v := kv.Value.(type) {
					case *ast.BasicLit:
						text, _ := strconv.Unquote(v.Value)
						said = append(said, text)
					case *ast.Ident:
						if text, ok := named[v.Name]; ok {
							said = append(said, text)
						}
					case *ast.BinaryExpr:
						t.Errorf("%s: a code that is put together cannot be found: make it a constant", files.Position(v.Pos()))
					}
				}
				return true
			})
		}
	}
	slices.Sort(said)
	said = slices.Compact(said)
	return slices.DeleteFunc(said, func(c string) bool { return slices.Contains(noFaults, c) })
}

// constants are a package's constants of text, by name.
func constants(list []*ast.File) map[string]string {
	out := map[string]string{}
	for _, f := range list {
		values(f, func(_ ast.Expr, name, text string) { out[name] = text })
	}
	return out
}

func ofType(f *ast.File, kind string) (out []string) {
	values(f, func(of ast.Expr, _, text string) {
		if lastName(of) == kind {
			out = append(out, text)
		}
	})
	return out
}

func values(f *ast.File, see func(of ast.Expr, name, text string)) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			for i, name := range v.Names {
				if i >= len(v.Values) {
					continue
				}
				if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, _ := strconv.Unquote(lit.Value)
					see(v.Type, name.Name, text)
				}
			}
		}
	}
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
