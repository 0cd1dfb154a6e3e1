package wire

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// declared is a frame type as wire.go declares it.
type declared struct {
	number Type
	name   string // without "Type"
	from   string // who sends it, from the comment behind it
}

// declaredTypes reads the frame types from wire.go, in order.
func declaredTypes(t testing.TB) []declared {
	file, err := parser.ParseFile(token.NewFileSet(), "wire.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var types []declared
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range group.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(v.Names[0].Name, "Type") {
				continue
			}
			number, err := strconv.ParseUint(v.Values[0].(*ast.BasicLit).Value, 0, 8)
			if err != nil {
				t.Fatal(err)
			}
			from, _, _ := strings.Cut(v.Comment.Text(), ":")
			types = append(types, declared{Type(number), strings.TrimPrefix(v.Names[0].Name, "Type"), from})
		}
	}
	if len(types) < 20 {
		t.Fatalf("found %d types in wire.go", len(types))
	}
	return types
}

func TestType(t *testing.T) {
	last, declared := Type(0), map[Type]bool{}
	for _, d := range declaredTypes(t) {
		m := ofType(d.number)
		if m == nil || name(m) != d.name {
			t.Errorf("type %#x is %s, its message %T", d.number, d.name, m)
		}
		if d.number <= last {
			t.Errorf("%s: number %#x is out of order", d.name, d.number)
		}
		last = d.number
		number := d.number
		if request := d.from == "C" && (number >= 0x10 && number < 0x20 || number >= 0x50 && number < 0x60 || number >= 0x60 && number < 0x68); number.IsRequest() != request {
			t.Errorf("%s: IsRequest is %v", d.name, d.number.IsRequest())
		}
		if d.number.IsBulk() != (d.name == "Patch" || d.name == "Data") {
			t.Errorf("%s: IsBulk is %v", d.name, d.number.IsBulk())
		}
		declared[d.number] = true
	}
	for n := range 256 {
		if known := Type(n).IsKnown(); known != declared[Type(n)] {
			t.Errorf("IsKnown of type %#02x is %v", n, known)
		}
	}
}
