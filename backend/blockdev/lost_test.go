package blockdev

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/hash"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// overSSH gives the Fs of dir behind an SSH server and a relay that can break the line.
func overSSH(t *testing.T, dir string) (fs.Fs, *harness.Relay) {
	t.Helper()
	return overSSHBy(t, dir, harness.Bin(t, "blockdev-helper"))
}

// overSSHBy is overSSH with a helper of its own.
func overSSHBy(t *testing.T, dir, helper string) (fs.Fs, *harness.Relay) {
	t.Helper()
	require.Need(t, require.Sshd)
	server := harness.Sshd(t)
	relay := harness.NewRelay(t, server.Addr())
	server.KnowPort(t, relay.Port())
	leakless(t)
	return newFs(t, fmt.Sprintf(`:blockdev,host=%s,port=%d,user=%s,key_file="%s",known_hosts_file="%s",ssh_config=none,helper_path="%s":%s`,
		server.Host, relay.Port(), server.User, server.KeyFile, server.KnownHosts, helper, dir)), relay
}

// What changes nothing is asked again when the line broke, also while several sessions were idle.
func TestLost_Idle(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(3<<20, 1)
	write(t, dir+"/img", data)
	f, relay := overSSH(t, dir)
	o := find(t, f, "img")
	idle := func() {
		var open sync.WaitGroup
		gate := make(chan struct{})
		for range 4 {
			open.Go(func() {
				r, err := o.Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				<-gate
				r.Close()
			})
		}
		close(gate)
		open.Wait()
	}
	for name, look := range map[string]func() error{
		"open": func() error {
			r, err := o.Open(t.Context())
			if err != nil {
				return err
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("content differs, %w", err)
			}
			return nil
		},
		"list":  func() error { _, err := f.List(t.Context(), ""); return err },
		"find":  func() error { _, err := f.NewObject(t.Context(), "img"); return err },
		"hash":  func() error { _, err := o.Hash(t.Context(), hash.SHA256); return err },
		"about": func() error { _, err := f.Features().About(t.Context()); return err },
	} {
		idle()
		relay.Cut()
		if err := look(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A read that breaks goes on where it was, with others idle on the same connection.
func TestLost_Reading(t *testing.T) {
	dir := t.TempDir()
	data := edges.Contents()[1].Make(24<<20, 2)
	write(t, dir+"/img", data)
	f, relay := overSSH(t, dir)
	src := find(t, f, "img")
	for i := range 5 {
		r, err := operations.Open(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		other, err := src.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
		relay.Reset()
		relay.CutAfter(int64(3+i) << 20)
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		r.Close()
		if total := relay.Total(); total > 24<<20+10<<20 {
			t.Errorf("%d bytes crossed: it began anew", total)
		}
	}
}
