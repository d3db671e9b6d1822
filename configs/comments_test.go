package configs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestComments: comments.txt is what stands at the types and fields of the files.
func TestComments(t *testing.T) {
	t.Parallel()
	found := map[string]string{}
	for _, name := range []string{"agent.go", "board.go", "cloud.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			d, ok := n.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				return true
			}
			typ := d.Specs[0].(*ast.TypeSpec)
			found[typ.Name.Name] = oneLine(d.Doc)
			if s, ok := typ.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						found[typ.Name.Name+"."+name.Name] = oneLine(field.Doc)
					}
				}
			}
			return true
		})
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(found)) {
		b.WriteString(name + "\t" + found[name] + "\n")
	}
	if b.String() == commentText {
		return
	}
	if *update {
		if err := os.WriteFile("comments.txt", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("comments.txt is not what the structs say: go test ./configs -update, twice, as the schemas are made from it")
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
