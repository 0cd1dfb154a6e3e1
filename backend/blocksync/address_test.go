package blocksync

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestParse(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	known := func(name string) bool { return name == "s3" || name == "blockdev" }
	local := func(path string) address { return address{host: "localhost", path: path} }
	for typed, want := range map[string]address{
		"/dev/sda":                       local("/dev/sda"),
		"/odd:name":                      local("/odd:name"),
		"//dev/../dev/sda":               local("/dev/sda"),
		"disk.img":                       local(filepath.Join(here, "disk.img")),
		"./a:b":                          local(filepath.Join(here, "a:b")),
		"dir/a:b":                        local(filepath.Join(here, "dir/a:b")),
		"../x y'\n":                      local(filepath.Join(here, "../x y'\n")),
		"-n":                             local(filepath.Join(here, "-n")),
		"vmhost:/dev/sda":                {host: "vmhost", path: "/dev/sda"},
		"root@vmhost:/dev/../dev/sda":    {host: "root@vmhost", path: "/dev/sda"},
		"vmhost:/a:b@c":                  {host: "vmhost", path: "/a:b@c"},
		"[2001:db8::7]:/dev/sda":         {host: "[2001:db8::7]", path: "/dev/sda"},
		"root@[2001:db8::7]:/dev/sda":    {host: "root@[2001:db8::7]", path: "/dev/sda"},
		"localhost:/dev/sda":             local("/dev/sda"),
		"ssh://vmhost/dev/sda":           {host: "vmhost", path: "/dev/sda"},
		"ssh://me@vmhost:2222/a%20b?c#d": {host: "me@vmhost:2222", path: "/a%20b?c#d"},
		"ssh://me@[2001:db8::7]:22/x":    {host: "me@[2001:db8::7]:22", path: "/x"},
		"s3:bucket/vm.img":               {remote: "s3:bucket/vm.img"},
		"s3:/bucket/vm.img":              {remote: "s3:/bucket/vm.img"},
		"s3,region='a:b':bucket/vm.img":  {remote: "s3,region='a:b':bucket/vm.img"},
		":memory:x":                      {remote: ":memory:x"},
		":sftp,host=a:/x":                {remote: ":sftp,host=a:/x"},
		"blockdev:vmhost/dev/sda":        {remote: "blockdev:vmhost/dev/sda"},
		"me@s3:/dev/sda":                 {host: "me@s3", path: "/dev/sda"},
	} {
		if got, err := parse(typed, known); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", typed, got, err, want)
		}
	}
	for _, typed := range []string{"", "vmhost:", "vmhost:dev/sda", "vmhost:/", "vmhost:/dev/", "dir/", "ssh://", "ssh:///dev/sda", "ssh://vmhost",
		"ssh://vmhost/", "ssh://a:b:c/x", "[2001:db8::7]:x", "@:x"} {
		var wrong usageError
		if got, err := parse(typed, known); !errors.As(err, &wrong) {
			t.Errorf("%q: got %+v, %v", typed, got, err)
		}
	}
}

// A letter and a colon are a drive of Windows, and a host elsewhere; a backslash is a separator, and part of a name.
func TestParse_systems(t *testing.T) {
	known := func(name string) bool { return name == "C" || name == "s3" }
	for typed, host := range map[string][2]string{ // elsewhere, on Windows
		`d:/disk.img`:          {"d", "localhost"},
		`D:\disk.img`:          {"", "localhost"},
		`dir\a:b`:              {"", "localhost"},
		`disk.img`:             {"localhost", "localhost"},
		`.\disk.img`:           {"localhost", "localhost"},
		`vm:/dev/sda`:          {"vm", "vm"},
		`me@d:/dev/sda`:        {"me@d", "me@d"},
		`\\.\PhysicalDrive0`:   {"localhost", ""},
		`\\server\share\a.img`: {"localhost", ""},
	} {
		for i, windows := range []bool{false, true} {
			got, err := parseOn(windows, typed, known)
			var usage usageError
			if got.host != host[i] || (host[i] == "") != errors.As(err, &usage) {
				t.Errorf("%q, windows is %v: got %+v, %v", typed, windows, got, err)
			}
		}
	}
	if got, err := parseOn(false, "C:/disk.img", known); err != nil || got.remote != "C:/disk.img" {
		t.Errorf("a configured remote: got %+v, %v", got, err)
	}
}
