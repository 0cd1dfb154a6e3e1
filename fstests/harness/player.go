package harness

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Player plays one end of a recorded session to a real other end.
type Player struct {
	Dir    string // folder of the files
	As     byte   // the end that it plays
	Grease bool   // it says something optional that nobody knows before each frame

	// Optional tells which types of the other end are of frames that may come or not, and Alike those whose payload is not the same on
	// all machines.
	Optional, Alike func(kind byte) bool

	conn net.Conn
	got  chan rawFrame
	kept []rawFrame // came before its turn
	last error      // why nothing more comes; valid when got is closed
}

// playPatience is how long the other end may take for what it should say.
const playPatience = 10 * time.Second

// Play plays lines on conn. Each frame is sent when all that the other end said before it in the recording has come. It
// returns nil when all was said, and nothing else was until then.
func (p *Player) Play(conn net.Conn, lines []RecordedFrame) error {
	p.conn, p.got, p.kept = conn, make(chan rawFrame, 1<<10), nil
	go p.listen()
	if _, err := io.WriteString(conn, recordedMagic); err != nil {
		return err
	}
	for i, l := range lines {
		if l.From != p.As && p.Optional(l.Type) {
			continue
		}
		payload, err := l.bytes(p.Dir)
		if err == nil && l.From == p.As {
			err = p.say(byte(i), rawFrame{l.Type, payload})
		} else if err == nil {
			err = p.expect(rawFrame{l.Type, payload})
		}
		if err != nil {
			return fmt.Errorf("frame %d, %c %02x: %w", i+1, l.From, l.Type, err)
		}
	}
	if len(p.kept) > 0 {
		return fmt.Errorf("a frame of type %02x that is not in the recording", p.kept[0].kind)
	}
	return nil
}

// listen takes all that comes, the magic first.
func (p *Player) listen() {
	defer close(p.got)
	magic := make([]byte, len(recordedMagic))
	if _, err := io.ReadFull(p.conn, magic); err != nil || string(magic) != recordedMagic {
		p.last = fmt.Errorf("%x instead of the magic: %w", magic, err)
		return
	}
	for {
		f, err := readFrame(p.conn)
		if err != nil {
			p.last = err
			return
		}
		if !p.Optional(f.kind) {
			p.got <- f
		}
	}
}

// say sends a frame.
func (p *Player) say(seed byte, f rawFrame) error {
	var b []byte
	if p.Grease && f.kind != 0x01 { // before Hello there is nothing else
		b = rawFrame{0x90 | seed&0x6f, []byte("grease")}.encode()
	}
	_, err := p.conn.Write(append(b, f.encode()...))
	return err
}

// expect returns when a frame has come.
func (p *Player) expect(want rawFrame) error {
	late := time.After(playPatience)
	for {
		if i := slices.IndexFunc(p.kept, func(f rawFrame) bool {
			return f.kind == want.kind && (p.Alike(f.kind) || bytes.Equal(f.payload, want.payload))
		}); i >= 0 {
			p.kept = slices.Delete(p.kept, i, i+1)
			return nil
		}
		select {
		case f, ok := <-p.got:
			if !ok {
				return fmt.Errorf("it did not come, but%s: %w", p.others(), p.last)
			}
			p.kept = append(p.kept, f)
		case <-late:
			return fmt.Errorf("it did not come, but%s", p.others())
		}
	}
}

// others describes what came instead.
func (p *Player) others() (text string) {
	for _, f := range p.kept {
		text += fmt.Sprintf(" [%02x %.80x]", f.kind, f.payload)
	}
	return text
}

// Refused sends a frame of a type that nobody knows after Play, and returns when the other end has said why it hangs up:
// with a frame of type reason that check accepts.
func (p *Player) Refused(unknown, reason byte, check func(payload []byte) error) error {
	if err := p.say(0, rawFrame{unknown, nil}); err != nil {
		return err
	}
	late := time.After(playPatience)
	err := fmt.Errorf("it hung up without a word")
	for {
		select {
		case f, ok := <-p.got:
			switch {
			case !ok:
				return err
			case f.kind == reason:
				err = check(f.payload)
			}
		case <-late:
			return fmt.Errorf("it goes on")
		}
	}
}
