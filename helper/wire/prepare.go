package wire

// Snapshotting is the kind of snapshots that a client wants.
type Snapshotting uint8

// The kinds.
const (
	SnapshotNone    Snapshotting = 0 // hooks alone
	SnapshotLVM     Snapshotting = 1 // of a logical volume, with space of its own
	SnapshotLVMThin Snapshotting = 2 // of a thin volume
	SnapshotZFS     Snapshotting = 3 // of a volume of ZFS
	SnapshotReflink Snapshotting = 4 // a clone of an image file
	SnapshotCommand Snapshotting = 5 // programs of the user
)

// Prepare makes the surroundings of a transfer, or finds those that its owner has: it runs hooks and takes snapshots.
// The next Open of Path for reading in this session reads the snapshot. Again with the same owner it tells whether
// the snapshot is still good.
type Prepare struct {
	path
	Owner      Claim
	Follow     bool // it must exist
	Write      bool // the hooks are those of writing
	Kind       Snapshotting
	Group      []string // paths of all that is taken at one moment, Path among them; none for Path alone
	Space      string   // bytes, or percent of the original with "%" behind; empty for the helper's own choice
	Freeze     []string // mountpoints
	FreezeTime int64    // milliseconds
	Grace      int64    // milliseconds that it is kept for a client that is gone
	Take       []string // program and arguments, for SnapshotCommand
	Drop       []string // program and arguments
	Before     []string // program and arguments, as those below
	After      []string
}

func (*Prepare) Type() Type { return TypePrepare }

// Validate refuses what has no meaning.
func (m *Prepare) Validate() error {
	commands := m.Kind == SnapshotCommand
	if m.Owner == (Claim{}) || m.Kind > SnapshotCommand || m.Write && m.Kind != SnapshotNone || commands != (len(m.Take) > 0) || commands != (len(m.Drop) > 0) {
		return ErrInvalid
	}
	if m.Kind == SnapshotNone && (len(m.Group) > 0 || len(m.Freeze) > 0 || m.Space != "") {
		return ErrInvalid
	}
	for _, all := range [][]string{m.Group, m.Freeze, m.Take, m.Drop, m.Before, m.After} {
		if err := checkNames(all); err != nil {
			return err
		}
	}
	if err := checkStrings(MaxName, m.Space); err != nil {
		return err
	}
	if err := checkSizes(m.FreezeTime, m.Grace); err != nil {
		return err
	}
	if m.FreezeTime > MaxWait || m.Grace > MaxWait {
		return ErrInvalid
	}
	return m.path.Validate()
}

func (m *Prepare) append(b []byte) []byte {
	b = append(m.path.append(b), m.Owner[:]...)
	b = append(appendBool(appendBool(b, m.Follow), m.Write), byte(m.Kind))
	b = appendStrings(appendString(appendStrings(b, m.Group), m.Space), m.Freeze)
	b = appendInt64(appendInt64(b, m.FreezeTime), m.Grace)
	for _, words := range [][]string{m.Take, m.Drop, m.Before, m.After} {
		b = appendStrings(b, words)
	}
	return b
}

func (m *Prepare) decode(d *decoder) {
	m.path.decode(d)
	copy(m.Owner[:], d.take(len(m.Owner)))
	m.Follow, m.Write, m.Kind = d.bool(), d.bool(), Snapshotting(d.uint8())
	m.Group, m.Space, m.Freeze = d.strings(), d.string(MaxName), d.strings()
	m.FreezeTime, m.Grace = d.int64(), d.int64()
	for _, words := range []*[]string{&m.Take, &m.Drop, &m.Before, &m.After} {
		*words = d.strings()
	}
}

// Prepared answers Prepare.
type Prepared struct {
	Device string // what will be read; empty for the path itself
	Made   int64  // nanoseconds since 1970; another number is another moment
}

func (*Prepared) Type() Type               { return TypePrepared }
func (m *Prepared) Validate() error        { return checkStrings(MaxName, m.Device) }
func (m *Prepared) append(b []byte) []byte { return appendInt64(appendString(b, m.Device), m.Made) }
func (m *Prepared) decode(d *decoder)      { m.Device, m.Made = d.string(MaxName), d.int64() }

// Conclude ends what Prepare has begun, in this session or in another one: snapshots are removed, hooks run.
type Conclude struct {
	Owner  Claim
	Failed bool // what the hooks are told of the transfer
	Wait   bool // Done comes when all is done
}

func (*Conclude) Type() Type { return TypeConclude }

// Validate refuses an owner that nobody has.
func (m *Conclude) Validate() error {
	if m.Owner == (Claim{}) {
		return ErrInvalid
	}
	return nil
}

func (m *Conclude) append(b []byte) []byte {
	return appendBool(appendBool(append(b, m.Owner[:]...), m.Failed), m.Wait)
}

func (m *Conclude) decode(d *decoder) {
	copy(m.Owner[:], d.take(len(m.Owner)))
	m.Failed, m.Wait = d.bool(), d.bool()
}

// Snapshots asks for all snapshots that helpers have made on this host, as Kept frames, or removes one.
type Snapshots struct{ Remove string } // its ID; empty to list them

func (*Snapshots) Type() Type               { return TypeSnapshots }
func (m *Snapshots) Validate() error        { return checkStrings(MaxName, m.Remove) }
func (m *Snapshots) append(b []byte) []byte { return appendString(b, m.Remove) }
func (m *Snapshots) decode(d *decoder)      { m.Remove = d.string(MaxName) }

// Kept is one snapshot.
type Kept struct {
	ID, Kind, Path, Device, State string
	Made                          int64 // nanoseconds since 1970, 0 where it is not known
}

func (*Kept) Type() Type { return TypeKept }
func (m *Kept) Validate() error {
	return checkStrings(MaxName, m.ID, m.Kind, m.Path, m.Device, m.State)
}

func (m *Kept) append(b []byte) []byte {
	for _, s := range []string{m.ID, m.Kind, m.Path, m.Device, m.State} {
		b = appendString(b, s)
	}
	return appendInt64(b, m.Made)
}

func (m *Kept) decode(d *decoder) {
	for _, s := range []*string{&m.ID, &m.Kind, &m.Path, &m.Device, &m.State} {
		*s = d.string(MaxName)
	}
	m.Made = d.int64()
}
