package fstests

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// kubernetesAPI are the modules whose sources have the types of the API. They are read and not compiled: that would
// take longer than all that is tested with them.
var kubernetesAPI = []string{"k8s.io/api@v0.37.2", "k8s.io/apimachinery@v0.37.2"}

var yamlManifests = regexp.MustCompile("(?s)```yaml\n(apiVersion: .*?)\n```")

// Each field of the manifests in the fleet guide is one of the API, and of its type.
func TestFleet_Kubernetes(t *testing.T) {
	api := apiTypes{}
	for _, module := range kubernetesAPI {
		cmd := exec.Command("go", "mod", "download", "-json", module)
		cmd.Dir = t.TempDir()
		out, err := cmd.Output()
		var info struct{ Dir, Error string }
		if json.Unmarshal(out, &info) != nil || err != nil {
			t.Fatalf("%s cannot be downloaded: %v %s", module, err, info.Error)
		}
		for _, dir := range []string{"core/v1", "batch/v1", "pkg/apis/meta/v1"} {
			api.read(t, filepath.Join(info.Dir, filepath.FromSlash(dir)))
		}
	}
	found := yamlManifests.FindAllStringSubmatch(readPage(t, "../docs/fleet.md"), -1)
	if len(found) != 1 {
		t.Fatalf("%d blocks of manifests", len(found))
	}
	text := found[0][1]
	kinds, err := api.check(text)
	if err != nil || !reflect.DeepEqual(kinds, []string{"Secret", "PersistentVolumeClaim", "CronJob"}) {
		t.Errorf("%v, %v", kinds, err)
	}
	for old, wrong := range map[string]string{
		"volumeDevices:": "volumeDevice:", "devicePath:": "mountPath:", "backoffLimit: 2": "backoffLimit: two", "drop: [ALL]": "drop: ALL",
		"volumeMode: Block": "volumemode: Block", "claimName:": "name:", "restartPolicy:": "restartpolicy:",
	} {
		if _, err := api.check(strings.Replace(text, old, wrong, 1)); err == nil {
			t.Errorf("%q in the place of %q is not noticed", wrong, old)
		}
	}
}

// apiTypes are type expressions of Go by package and name, as "v1.CronJob": the packages have different names for
// each type, so the last part of their paths is enough. Those of other packages are texts in YAML.
type apiTypes map[string]ast.Expr

func (api apiTypes) read(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "types*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				api[spec.Name.Name] = spec.Type
			}
			return true
		})
	}
}

// check returns the kinds of the manifests in a text.
func (api apiTypes) check(text string) (kinds []string, err error) {
	in := yaml.NewDecoder(strings.NewReader(text + "\n"))
	for {
		var manifest map[string]any
		if err := in.Decode(&manifest); err != nil {
			if len(kinds) > 0 && err.Error() == "EOF" {
				return kinds, nil
			}
			return nil, err
		}
		kind := fmt.Sprint(manifest["kind"])
		if api[kind] == nil {
			return nil, fmt.Errorf("there is no kind %s", kind)
		}
		if err := api.value(kind, api[kind], manifest); err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
}

// value checks that v fits the type.
func (api apiTypes) value(at string, typ ast.Expr, v any) error {
	switch typ := typ.(type) {
	case *ast.StarExpr:
		return api.value(at, typ.X, v)
	case *ast.StructType:
		return api.object(at, typ, v)
	case *ast.ArrayType:
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%s is no list: %v", at, v)
		}
		for i, element := range list {
			if err := api.value(fmt.Sprintf("%s[%d]", at, i), typ.Elt, element); err != nil {
				return err
			}
		}
		return nil
	case *ast.MapType:
		object, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object: %v", at, v)
		}
		for key, element := range object {
			if err := api.value(at+"."+key, typ.Value, element); err != nil {
				return err
			}
		}
		return nil
	case *ast.SelectorExpr:
		if known := api[typ.Sel.Name]; known != nil && typ.Sel.Name != "Duration" {
			return api.value(at, known, v)
		}
		return scalar(at, "string", v)
	case *ast.Ident:
		if known := api[typ.Name]; known != nil {
			return api.value(at, known, v)
		}
		return scalar(at, typ.Name, v)
	}
	return fmt.Errorf("%s: what is %T?", at, typ)
}

// object checks the fields of a structure, by the names that its tags give them.
func (api apiTypes) object(at string, typ *ast.StructType, v any) error {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s is no object: %v", at, v)
	}
	fields := map[string]ast.Expr{}
	api.fields(typ, fields)
	for key, element := range object {
		if fields[key] == nil {
			return fmt.Errorf("%s has no field %s", at, key)
		}
		if err := api.value(at+"."+key, fields[key], element); err != nil {
			return err
		}
	}
	return nil
}

func (api apiTypes) fields(typ *ast.StructType, fields map[string]ast.Expr) {
	for _, f := range typ.Fields.List {
		tag := ""
		if f.Tag != nil {
			tag, _ = strconv.Unquote(f.Tag.Value)
		}
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		switch {
		case name != "" && name != "-":
			fields[name] = f.Type
		case len(f.Names) == 0: // embedded, so its fields are those of this one
			embedded := f.Type
			if s, ok := embedded.(*ast.SelectorExpr); ok {
				embedded = s.Sel
			}
			if inner, ok := api[embedded.(*ast.Ident).Name].(*ast.StructType); ok {
				api.fields(inner, fields)
			}
		}
	}
}

func scalar(at, typ string, v any) error {
	ok := false
	switch v.(type) {
	case string:
		ok = typ == "string"
	case bool:
		ok = typ == "bool"
	case int:
		ok = strings.HasPrefix(typ, "int") || strings.HasPrefix(typ, "uint")
	}
	if !ok {
		return fmt.Errorf("%s is not of the type %s: %v", at, typ, v)
	}
	return nil
}
