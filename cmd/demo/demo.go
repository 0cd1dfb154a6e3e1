package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// demo is one run of the demonstration, as the flags say.
type demo struct {
	out  io.Writer
	dir  string // local directory, or "" for a temporary one
	ssh  string // host and directory to copy to, or "" for this machine
	bin  string // directory with the programs, or "" to build them
	size size

	rclone  rclone
	work    string // local directory of this run, removed at the end
	target  remote
	name    string // of the copy, in target
	started bool   // the first copy to target
	done    bool   // that copy succeeded
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// show does everything, and removes what it made.
func (d *demo) show(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	defer func() { d.clean(ctx.Err() != nil) }()
	image := filepath.Join(d.work, "disk.img")
	d.say("Making a disk image of %s: random data, text, zeros and holes.", d.size)
	if err := makeImage(ctx, image, int64(d.size)); err != nil {
		return err
	}
	d.say("Copying it to %s\n", d.target.file(d.name))
	if err := d.steps(ctx, image); err != nil {
		return err
	}
	d.conclude()
	return nil
}

// prepare builds the programs and finds the places.
func (d *demo) prepare(ctx context.Context) (err error) {
	bin := d.bin
	if bin == "" {
		if bin, err = d.build(ctx); err != nil {
			return err
		}
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	d.rclone = rclone{program(bin)}
	if _, err := os.Stat(d.rclone.path); err != nil {
		return err
	}
	if d.ssh != "" {
		if d.target, err = over(ctx, d.rclone, d.ssh); err != nil {
			return err
		}
	}
	if d.work, err = os.MkdirTemp(d.dir, "blockdev-demo-"); err != nil {
		return err
	}
	if d.work, err = filepath.Abs(d.work); err != nil {
		return err
	}
	d.name = "copy.img"
	if d.ssh == "" {
		d.target = local(d.rclone, d.work)
	} else {
		d.name = filepath.Base(d.work) + ".img" // other files are there
	}
	return nil
}

// steps copies, and prints a line of the table for each copy.
func (d *demo) steps(ctx context.Context, image string) error {
	copied, pulled := d.target.file(d.name), filepath.Join(d.work, "pulled.img")
	t := newTable(d.out, d.ssh != "")
	d.started = true
	if err := d.step(ctx, t, "first copy", image, copied); err != nil {
		return err
	}
	d.done = true
	if err := d.step(ctx, t, "nothing changed", image, copied); err != nil {
		return err
	}
	if err := changeImage(image, int64(d.size)); err != nil {
		return err
	}
	if err := d.step(ctx, t, "1 % changed", image, copied); err != nil {
		return err
	}
	if err := d.step(ctx, t, "pulled back", copied, pulled); err != nil {
		return err
	}
	start := time.Now()
	if err := compare(image, pulled); err != nil {
		return err
	}
	t.compared(time.Since(start))
	return nil
}

func (d *demo) step(ctx context.Context, t *table, name, from, to string) error {
	rep, err := d.rclone.copy(ctx, from, to)
	if err != nil {
		return err
	}
	t.row(name, rep)
	return nil
}

func (d *demo) conclude() {
	d.say("\nThe image pulled back is identical, compared byte by byte.")
	if d.ssh != "" {
		d.say("The helper stays on the host, in ~/.cache/rclone-blockdev, for the next time.")
	}
}

// cleanTime is how long removing may take after an interruption.
const cleanTime = time.Minute

// clean removes what this run made, here and on the host. A first copy that
// failed by itself has left nothing there, or the host cannot be reached.
func (d *demo) clean(interrupted bool) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	if d.ssh != "" && (d.done || d.started && interrupted) {
		if err := d.cleanHost(ctx); err != nil {
			d.say("Could not be removed: %v", err)
		}
	}
	if err := os.RemoveAll(d.work); err != nil {
		d.say("Could not be removed: %v", err)
	}
}

func (d *demo) cleanHost(ctx context.Context) error {
	if !d.done {
		empty := filepath.Join(d.work, "empty.img")
		if err := os.WriteFile(empty, nil, 0o600); err != nil {
			return err
		}
		if err := d.target.finish(ctx, d.name, empty); err != nil {
			return err
		}
	}
	return d.target.remove(ctx, d.name)
}
