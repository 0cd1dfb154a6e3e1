package device

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dmTarget is one line of a table of the device mapper, or of its state.
type dmTarget struct {
	kind  string
	words []string // at least one
}

// dmTable asks the device mapper what a device consists of.
func (k kernel) dmTable(n number) ([]dmTarget, error) {
	return k.dmAsk(n, unix.DM_STATUS_TABLE_FLAG)
}

// dmStatus asks for the state of what it consists of, as it is known now.
func (k kernel) dmStatus(n number) ([]dmTarget, error) { return k.dmAsk(n, unix.DM_NOFLUSH_FLAG) }

func (k kernel) dmAsk(n number, flags uint32) ([]dmTarget, error) {
	all, head, err := k.dmCall(n, unix.DM_TABLE_STATUS, flags, nil)
	if err != nil {
		return nil, err
	}
	return parseTable(all[head.Data_start:], int(head.Target_count))
}

// dmMessage tells the only target of a device to do something.
func (k kernel) dmMessage(n number, text string) error {
	sector := make([]byte, 8, 8+len(text)+1)
	_, _, err := k.dmCall(n, unix.DM_TARGET_MSG, 0, append(append(sector, text...), 0))
	return err
}

// dmCall sends the device mapper a request about a device.
func (k kernel) dmCall(n number, request uintptr, flags uint32, data []byte) ([]byte, *unix.DmIoctl, error) {
	control, err := os.OpenFile(k.mapper, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	defer control.Close()
	buf := make([]uint64, 16<<10/8) // aligned as the kernel wants it
	all := unsafe.Slice((*byte)(unsafe.Pointer(&buf[0])), len(buf)*8)
	head := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	head.Version = [3]uint32{4, 0, 0}
	head.Data_size = uint32(len(all))
	head.Data_start = unix.SizeofDmIoctl
	head.Flags = flags
	head.Dev = uint64(n.minor&0xff) | uint64(n.major)<<8 | uint64(n.minor&^0xff)<<12
	copy(all[head.Data_start:], data)
	err = withFD(control, func(fd uintptr) error {
		if _, _, no := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(head))); no != 0 {
			return no
		}
		return nil
	})
	if err == nil && head.Flags&unix.DM_BUFFER_FULL_FLAG != 0 {
		err = unix.ENOSPC
	}
	return all, head, err
}

// parseTable reads the kernel's list of targets: each has a dm_target_spec, of which the last fields are the offset
// of the next one and the type, and then its parameters as text.
func parseTable(list []byte, count int) ([]dmTarget, error) {
	var out []dmTarget
	at := 0
	for range count {
		if at < 0 || at > len(list)-unix.SizeofDmTargetSpec {
			return nil, unix.EINVAL
		}
		spec, text := list[at:at+unix.SizeofDmTargetSpec], list[at+unix.SizeofDmTargetSpec:]
		kind, _, _ := bytes.Cut(spec[24:], []byte{0})
		params, _, _ := bytes.Cut(text, []byte{0})
		words := strings.Fields(string(params))
		if len(words) == 0 {
			words = []string{""}
		}
		out = append(out, dmTarget{string(kind), words})
		at = int(binary.NativeEndian.Uint32(spec[20:]))
	}
	return out, nil
}
