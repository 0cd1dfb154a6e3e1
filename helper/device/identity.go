package device

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/helper/signature"
)

// maxID is how long an identity may be, in bytes. Longer ones, such as paths of
// files behind loop devices, are left out rather than cut.
const maxID = 255

// IDs are the identities of a target, as key=value: those that last, and then
// those that are part of the content. The keys are in docs/protocol.md.
func (o *Object) IDs() (lasting, content []string) { return o.lasting, contentIDs(o.found) }

// Content is what was on a target when it was opened, for people.
func (o *Object) Content() []string { return describeContent(o.found) }

// identified finds out what a target is and refuses one that is not expected. It
// works on what is open, so that nothing can be exchanged between looking and
// writing. Followers are bound to the target of their leader by the claim.
func (o *Object) identified(w WriteOptions) error {
	if w.follower() || o.info.Kind != Block && w.Expect == "" && len(w.Pins) == 0 {
		return nil
	}
	o.found = signature.Read(ends{o}, o.info.Size, o.info.BlockSize)
	if o.info.Kind == Block {
		o.lasting = lastingIDs(o.info, true)
	}
	return expected(o.path, w, o.lasting, contentIDs(o.found))
}

// expected compares the identities of a target with those that are wanted.
func expected(path string, w WriteOptions, lasting, content []string) error {
	all := slices.Concat(lasting, content)
	if w.Expect != "" && !slices.ContainsFunc(all, func(id string) bool { return matches(id, w.Expect) }) {
		return refuse(ErrIdentity, "open", path, "is not the device that is expected: that has the identity %s, this one has %s", w.Expect, list(all))
	}
	for _, pin := range w.Pins {
		if !slices.Contains(lasting, pin) {
			return refuse(ErrIdentity, "open", path,
				"this is not the disk that was synced before: was %s, is %s: connect the right one or, when the new one is meant, forget the old one with the command unpin",
				list(w.Pins), list(lasting))
		}
	}
	return nil
}

// expectedNew refuses to create what is expected to be there.
func expectedNew(path string, w WriteOptions) error {
	if w.Expect == "" && len(w.Pins) == 0 {
		return nil
	}
	return refuse(ErrIdentity, "open", path, "does not exist, so it is not the device that is expected: that has the identity %s", list(append([]string{w.Expect}, w.Pins...)))
}

// list is ids for a message.
func list(ids []string) string {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == "" })
	if len(ids) == 0 {
		return "none"
	}
	return strings.Join(ids, ", ")
}

// matches tells whether an identity is the one that was asked for, with its key or
// without. Other programs write the prefix of a world wide name differently.
func matches(id, want string) bool {
	key, value, _ := strings.Cut(id, "=")
	want = signature.Text([]byte(want)) // as identities are
	if strings.EqualFold(id, want) || strings.EqualFold(value, want) {
		return true
	}
	if k, v, ok := strings.Cut(want, "="); ok && strings.EqualFold(k, key) {
		want = v
	}
	return key == "wwn" && strings.EqualFold(bareWWN(value), bareWWN(want))
}

func bareWWN(s string) string {
	for _, prefix := range []string{"0x", "naa.", "eui."} {
		if len(s) > len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
			return s[len(prefix):]
		}
	}
	return s
}

// contentIDs are the identities that a copy replaces.
func contentIDs(found []signature.Found) (ids []string) {
	for _, f := range found {
		key := "uuid"
		if f.Table {
			key = "ptuuid"
		}
		ids = addID(ids, key, f.UUID)
	}
	return ids
}

// addID adds an identity that is there and not known yet.
func addID(ids []string, key, value string) []string {
	value = signature.Text([]byte(value))
	id := key + "=" + value
	if value == "" || len(id) > maxID || slices.Contains(ids, id) {
		return ids
	}
	return append(ids, id)
}

func describeContent(found []signature.Found) (lines []string) {
	for _, f := range found {
		lines = append(lines, f.String())
	}
	return lines
}

// ends reads an object whatever part of it is to be copied.
type ends struct{ o *Object }

func (e ends) ReadAt(p []byte, off int64) (int, error) { return e.o.readAt(p, off) }

// look adds what is on the object to its description. It opens it for reading; where
// that is not possible, identities that last are all there is.
func (p properties) look(path string, info Info) properties {
	o := &Object{path: path, setSize: -1}
	var err error
	if o.f, err = os.OpenFile(path, os.O_RDONLY, 0); err != nil {
		return p.ids(lastingIDs(info, false))
	}
	defer o.Close()
	if err := o.identify(info); err != nil {
		return p.ids(lastingIDs(info, false))
	}
	found := signature.Read(ends{o}, o.info.Size, o.info.BlockSize)
	p = p.ids(slices.Concat(lastingIDs(o.info, true), contentIDs(found)))
	for _, line := range describeContent(found) {
		p.text("content", line)
	}
	return p
}

// noPartitions is what RereadPartitions says where the system refuses.
func noPartitions(path string, err error) string {
	return fmt.Sprintf("%s: the partition table was written, but could not be read again: %v", path, err)
}
