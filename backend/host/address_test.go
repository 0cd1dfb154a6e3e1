package host

import "testing"

func TestConfig_At(t *testing.T) {
	base := Config{User: "option", Port: "22", KeyFile: "key"}
	for spec, want := range map[string][3]string{
		"host":                {"host", "option", "22"},
		"root@host":           {"host", "root", "22"},
		"host:2222":           {"host", "option", "2222"},
		"root@host:2222":      {"host", "root", "2222"},
		"root@[::1]:2222":     {"::1", "root", "2222"},
		"[::1]":               {"::1", "option", "22"},
		"::1":                 {"::1", "option", "22"},
		"fe80::1%eth0":        {"fe80::1%eth0", "option", "22"},
		"me@example.com@host": {"host", "me@example.com", "22"},
		"192.0.2.1:22":        {"192.0.2.1", "option", "22"},
		"localhost":           {"localhost", "option", "22"},
	} {
		got := base.At(spec)
		if got.Host != want[0] || got.User != want[1] || got.Port != want[2] || got.KeyFile != "key" {
			t.Errorf("%s: host %q, user %q, port %q, want %q", spec, got.Host, got.User, got.Port, want)
		}
	}
	if base.Host != "" {
		t.Error("the options were changed")
	}
}
