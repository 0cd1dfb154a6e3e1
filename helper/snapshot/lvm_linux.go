package snapshot

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// lvm takes snapshots of logical volumes: of any volume with space of their own for what changes, or of thin volumes,
// in their pool. They have the tag lvmTag, and are read-only.
type lvm struct{ thin bool }

const (
	lvmTag   = "blockdev"
	ownerTag = "blockdev.owner=" // with the owner behind
	bootTag  = "blockdev.boot="  // with the boot id behind
)

const defaultSpace = "20%"

// lvsFields asks for fields of the volumes that match a selection.
func lvsFields(ctx context.Context, selection string, fields ...string) ([][]string, error) {
	out, err := tool(ctx, "lvm", "lvs", "--noheadings", "--nosuffix", "--units", "b", "--separator", "|", "-o", strings.Join(fields, ","),
		"-S", selection)
	if err != nil {
		return nil, err
	}
	var rows [][]string
	for line := range strings.Lines(out) {
		row := strings.Split(strings.TrimSpace(line), "|")
		if len(row) == len(fields) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// named selects one volume by its whole name.
func named(name string) string {
	vg, lv, _ := strings.Cut(name, "/")
	return fmt.Sprintf("vg_name=%q && lv_name=%q", vg, lv)
}

func (k lvm) plan(ctx context.Context, spec *Spec, path string, now time.Time) (Member, error) {
	what := "snapshot = " + k.name()
	dev, err := number(path)
	if err != nil {
		return Member{}, fail(device.ErrRefused, path, "%s: is not a logical volume", what)
	}
	rows, err := lvsFields(ctx, fmt.Sprintf("lv_kernel_major=%d && lv_kernel_minor=%d", unix.Major(dev), unix.Minor(dev)),
		"vg_name", "lv_name", "segtype", "lv_size")
	switch {
	case err != nil:
		return Member{}, toolFailed(path, what, err)
	case len(rows) == 0 && os.Geteuid() != 0:
		return Member{}, fail(device.ErrPermission, path, "%s: only root sees the volumes of LVM, use the option sudo", what)
	case len(rows) == 0:
		return Member{}, fail(device.ErrRefused, path, "%s: is not a logical volume", what)
	}
	vg, lv, segment := rows[0][0], rows[0][1], rows[0][2]
	if k.thin && segment != "thin" {
		return Member{}, fail(device.ErrRefused, path, "%s: is no thin volume but of the type %s: use snapshot = lvm", what, segment)
	}
	if !k.thin {
		if _, _, err := parseSpace(space(spec)); err != nil {
			return Member{}, fail(device.ErrRefused, path, "snapshot_size: %v", err)
		}
	}
	m := Member{Path: path, Kind: k.name(), Origin: vg + "/" + lv, Name: vg + "/" + nameOf(lv, spec.Owner, now)}
	m.Size, err = strconv.ParseInt(rows[0][3], 10, 64)
	if err != nil {
		return m, fail(device.ErrIO, path, "%s: its size: %v", what, err)
	}
	return m, nil
}

func (k lvm) name() string {
	if k.thin {
		return LVMThin
	}
	return LVM
}

func space(spec *Spec) string {
	if spec.Space == "" {
		return defaultSpace
	}
	return spec.Space
}

func (k lvm) take(ctx context.Context, spec *Spec, m *Member) error {
	vg, lv, _ := strings.Cut(m.Name, "/")
	args := []string{"lvcreate", "--snapshot", "--yes", "--permission", "r", "--name", lv, "--addtag", lvmTag,
		"--addtag", ownerTag + spec.Owner, "--addtag", bootTag + bootID()}
	if k.thin {
		args = append(args, "--setactivationskip", "n")
	} else if percent, bytes, err := parseSpace(space(spec)); err != nil {
		return err
	} else {
		// LVM takes a percentage as a limit, and less where there is less.
		args = append(args, "--size", fmt.Sprintf("%db", max(bytes, (m.Size*percent/100+511)/512*512)))
	}
	_, err := tool(ctx, "lvm", append(args, m.Origin)...)
	if err == nil && k.thin {
		_, err = tool(ctx, "lvm", "lvchange", "--ignoreactivationskip", "--activate", "y", m.Name)
	}
	if err == nil {
		m.Device, err = await(ctx, "/dev/"+m.Name, "/dev/mapper/"+mapped(vg)+"-"+mapped(lv))
	}
	if err != nil {
		return toolFailed(m.Path, "taking a snapshot", err)
	}
	return nil
}

// mapped is a name as the device mapper has it, which separates group and volume by a dash.
func mapped(s string) string { return strings.ReplaceAll(s, "-", "--") }

func (k lvm) check(ctx context.Context, m *Member) error {
	rows, err := lvsFields(ctx, named(m.Name), "lv_snapshot_invalid", "snap_percent", "lv_health_status")
	switch {
	case err != nil:
		return toolFailed(m.Path, "looking at its snapshot", err)
	case len(rows) == 0:
		return notFound(m.Path)
	case k.thin:
		return nil
	}
	used, _ := strconv.ParseFloat(rows[0][1], 64)
	if rows[0][0] != "" && rows[0][0] != "0" || used >= 100 {
		return fail(device.ErrNoSpace, m.Path, "its snapshot %s overflowed: more was written to the volume while it was read than the snapshot had "+
			"space for; what was read is void, use a larger snapshot_size", m.Name)
	}
	return nil
}

func (k lvm) drop(ctx context.Context, spec *Spec, m *Member) error {
	rows, err := lvsFields(ctx, named(m.Name), "lv_tags")
	switch {
	case err != nil:
		return toolFailed(m.Path, "removing its snapshot "+m.Name, err)
	case len(rows) == 0:
		return nil
	}
	_, lv, _ := strings.Cut(m.Name, "/")
	if _, _, ok := parseName(lv); !ok || !hasTag(rows[0][0], lvmTag) {
		return fail(device.ErrRefused, m.Path, "%s is not removed: it has not the tag %s that a snapshot of ours has", m.Name, lvmTag)
	}
	_, err = tool(ctx, "lvm", "lvremove", "--yes", "--force", m.Name)
	switch {
	case says(err, "in use", "is used by"):
		return fmt.Errorf("%w: %w", errInUse, err)
	case err != nil:
		return toolFailed(m.Path, "removing its snapshot "+m.Name, err)
	}
	return nil
}

func hasTag(tags, tag string) bool {
	for t := range strings.SplitSeq(tags, ",") {
		if t == tag {
			return true
		}
	}
	return false
}

func (k lvm) orphans(ctx context.Context, origin string) (found []Member, err error) {
	selection := fmt.Sprintf("lv_tags=%q", lvmTag)
	if vg, lv, ok := strings.Cut(origin, "/"); ok {
		selection += fmt.Sprintf(" && vg_name=%q && origin=%q", vg, lv)
	}
	rows, err := lvsFields(ctx, selection, "vg_name", "lv_name", "origin", "lv_tags", "segtype")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if _, _, ok := parseName(row[1]); !ok || !hasTag(row[3], lvmTag) {
			continue
		}
		m := Member{Path: "/dev/" + row[0] + "/" + row[2], Kind: LVM, Name: row[0] + "/" + row[1], Origin: row[0] + "/" + row[2],
			Device: "/dev/" + row[0] + "/" + row[1]}
		if row[4] == "thin" {
			m.Kind = LVMThin
		}
		if hasTag(row[3], bootTag+bootID()) {
			m.Undo = sameBoot
		}
		found = append(found, m)
	}
	return found, nil
}

// sameBoot marks an orphan that was made since the host was started: somebody may still look after it, from another
// container for one.
const sameBoot = "same boot"
