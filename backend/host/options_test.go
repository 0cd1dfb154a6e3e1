package host

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/config/configstruct"
)

// Every option fills a field and every field has an option.
func TestOptions_Fields(t *testing.T) {
	items, err := configstruct.Items(new(Config))
	if err != nil {
		t.Fatal(err)
	}
	var fields, options []string
	for _, item := range items {
		fields = append(fields, item.Name)
	}
	for _, o := range Options() {
		options = append(options, o.Name)
	}
	slices.Sort(fields)
	slices.Sort(options)
	if !slices.Equal(fields, options) {
		t.Errorf("fields  %v\noptions %v", fields, options)
	}
}

func TestOptions_Help(t *testing.T) {
	secret := []string{"pass", "key_file_pass"}
	for _, o := range Options() {
		summary, details, _ := strings.Cut(o.Help, "\n\n")
		if !strings.HasSuffix(summary, ".") || strings.Contains(summary, "\n") || len(summary) > 100 || details == "" {
			t.Errorf("%s: help %q", o.Name, o.Help)
		}
		if o.IsPassword != slices.Contains(secret, o.Name) {
			t.Errorf("%s: IsPassword %v", o.Name, o.IsPassword)
		}
	}
}

// Embedded in the options of a backend the fields keep their names, and the
// defaults arrive.
func TestOptions_Set(t *testing.T) {
	options := fs.Options(Options())
	simple := configmap.Simple{"host": "db", "port": "2222", "ssh": `ssh -i "a b"`, "sudo": "true", "idle_timeout": "5m", "streams": "2"}
	m := configmap.New()
	m.AddGetter(simple, configmap.PriorityNormal)
	for i := range options {
		if _, ok := simple[options[i].Name]; !ok {
			simple[options[i].Name] = options[i].String()
		}
	}
	var opt struct {
		Config
		Other string `config:"other"`
	}
	if err := configstruct.Set(m, &opt); err != nil {
		t.Fatal(err)
	}
	if opt.Host != "db" || opt.Port != "2222" || !slices.Equal(opt.SSH, fs.SpaceSepList{"ssh", "-i", "a b"}) || !opt.Sudo ||
		opt.IdleTimeout != fs.Duration(5*time.Minute) || opt.Streams != 2 || opt.Connections != 0 || opt.User != "" || len(opt.Ciphers) != 0 {
		t.Errorf("got %+v", opt.Config)
	}
}
