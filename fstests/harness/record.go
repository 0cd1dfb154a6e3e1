package harness

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// RecordVariable is the environment variable that names a file to which tests append what faults they have played, one
// JSON object a line. docs/reliability.md is made of it.
const RecordVariable = "BLOCKDEV_TEST_RECORD"

// Trial is a line of that file.
type Trial struct {
	Fault  string `json:"fault"`  // Name of one of Faults
	Count  int64  `json:"count"`  // how often it was played
	Failed bool   `json:"failed"` // something was not as it must be
	Shows  string `json:"shows"`  // what was measured, for people
}

// Tried notes that a fault was played that many times in the test so far; the end of the test tells how it came out.
// shows is what was measured.
func Tried(t testing.TB, fault string, count int, shows ...string) {
	t.Helper()
	if !slices.ContainsFunc(Faults, func(f Fault) bool { return f.Name == fault }) {
		t.Fatalf("internal error: %q is not one of harness.Faults", fault)
	}
	path := os.Getenv(RecordVariable)
	if path == "" {
		return
	}
	t.Cleanup(func() {
		trial := Trial{Fault: fault, Count: int64(count), Failed: t.Failed()}
		for _, s := range shows {
			trial.Shows = s
		}
		line, err := json.Marshal(trial)
		if err == nil {
			err = appendLine(path, line)
		}
		if err != nil {
			t.Errorf("cannot note what was tried: %v", err)
		}
	})
}

// appendLine adds a line to a file that several processes write.
func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
