// Package pages runs pages of documentation, so that no command in them can rot. A page is a script that runs from top
// to bottom. Its fenced blocks "console", "sh" and "bash" are commands for the shell of the machine at which the reader
// sits. Where a line of a block begins with "$ ", such lines are the commands and the others are what they print, see
// [Shows]; otherwise all lines are commands. Each must succeed. What a reader need not see stands in comments of HTML, on
// lines of their own, and above the block that it is about:
//
//	<!-- host NAME... -->             adds machines that the page can reach by ssh, see harness.Stage
//	<!-- device HOST PATH SIZE -->    adds a block device to a machine; that of the reader is "here"
//	<!-- program HOST NAME... -->     puts testdata/pages/NAME into /usr/local/bin there, in place of what cannot run
//	                                  here; NAME=OTHER is a link to OTHER
//	<!-- run [HOST]: COMMANDS -->     runs commands, on one or on many lines
//	<!-- on HOST -->                  the next block runs on that machine
//	<!-- status N -->                 each command of the next block ends with that exit code
//	<!-- output -->                   the next block is what the last command has printed
//	<!-- file [HOST:]PATH -->         the next block is the content of that file
//	<!-- not run: REASON -->          the next block is not run
//	<!-- Any other text -->           is left alone, when it begins with a capital letter
//
// Any other block is an error, so that no command escapes. What the test needs besides it takes the function scribble of
// harness.Machine for.
package pages

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// Step is one thing that a page does.
type Step struct {
	line int    // of the page, for messages
	verb string // "command", "output" or that of a comment
	args []string
	text string
	on   string // machine
	want int    // exit code of a command
}

var (
	verbs    = []string{"host", "device", "program", "run", "on", "status", "output", "file", "not run"}
	comment  = regexp.MustCompile(`^<!-- (` + strings.Join(verbs, "|") + `)\b((?:[^:]|:\S)*?)(?::\s(?s:(.*)))?-->\n?$`)
	prose    = regexp.MustCompile(`^ *<!-- [A-Z]`)
	compound = regexp.MustCompile(`\b(if|for|while|until|case)\b|{`)
)

// Parse splits a page into its steps.
func Parse(text string) (steps []Step, err error) {
	p := parser{lines: strings.SplitAfter(text, "\n")}
	p.reset()
	for p.at < len(p.lines) {
		line := p.lines[p.at]
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		switch line = line[len(indent):]; {
		case strings.HasPrefix(line, "<!--"):
			err = p.comment()
		case strings.HasPrefix(line, "```"):
			err = p.block(indent, strings.TrimSpace(line[3:]))
		default:
			if p.mark.line > 0 && strings.TrimSpace(line) != "" {
				err = fmt.Errorf("line %d: this comment is not above a block", p.mark.line)
			}
			p.at++
		}
		if err != nil {
			return nil, err
		}
	}
	if p.mark.line > 0 {
		return nil, fmt.Errorf("line %d: no block follows this comment", p.mark.line)
	}
	return p.steps, nil
}

type parser struct {
	lines []string
	at    int // next line
	mark  Step
	steps []Step
}

// reset forgets what comments have said of the next block.
func (p *parser) reset() { p.mark = Step{on: harness.Here} }

// comment reads a comment, which may have many lines. One that begins with a capital letter is none of ours.
func (p *parser) comment() error {
	first := p.at + 1
	text := ""
	for done := false; !done; p.at++ {
		if p.at == len(p.lines) {
			return fmt.Errorf("line %d: the comment does not end", first)
		}
		text += p.lines[p.at]
		done = strings.Contains(p.lines[p.at], "-->")
	}
	found := comment.FindStringSubmatch(strings.TrimLeft(text, " "))
	if found == nil && prose.MatchString(text) {
		return nil
	}
	if found == nil {
		return fmt.Errorf("line %d: %q is no comment that is known here", first, text)
	}
	s := Step{line: first, verb: found[1], args: strings.Fields(found[2]), text: strings.TrimSpace(found[3]), on: harness.Here}
	switch {
	case s.verb == "run" && len(s.args) <= 1 && s.text != "":
		if len(s.args) == 1 {
			s.on = s.args[0]
		}
		return p.commands(first-1, strings.SplitAfter(s.text+"\n", "\n"), s)
	case s.verb == "host" && len(s.args) > 0, s.verb == "device" && len(s.args) == 3, s.verb == "program" && len(s.args) > 1:
		p.steps = append(p.steps, s)
	case s.verb == "on" && len(s.args) == 1:
		p.mark.on, p.mark.line = s.args[0], first
	case s.verb == "status" && len(s.args) == 1:
		n, err := strconv.Atoi(s.args[0])
		if err != nil {
			return fmt.Errorf("line %d: %w", first, err)
		}
		p.mark.want, p.mark.line = n, first
	case s.verb == "not run" && s.text != "", s.verb == "output" && len(s.args) == 0, s.verb == "file" && len(s.args) == 1:
		p.mark.verb, p.mark.args, p.mark.line = s.verb, s.args, first
	default:
		return fmt.Errorf("line %d: %q is not as it should be", first, text)
	}
	return nil
}

// block reads a fenced block of that language.
func (p *parser) block(indent, language string) error {
	first := p.at + 1
	var body []string
	for p.at++; ; p.at++ {
		if p.at == len(p.lines) {
			return fmt.Errorf("line %d: the block does not end", first)
		}
		line := strings.TrimPrefix(p.lines[p.at], indent)
		if strings.TrimSpace(line) == "```" {
			p.at++
			break
		}
		body = append(body, line)
	}
	mark := p.mark
	p.reset()
	switch {
	case mark.verb == "not run":
	case mark.verb == "output":
		p.steps = append(p.steps, Step{line: first, verb: "output", text: strings.Join(body, "")})
	case mark.verb == "file":
		on, name, ok := strings.Cut(mark.args[0], ":")
		if !ok {
			on, name = mark.on, mark.args[0]
		}
		p.steps = append(p.steps, Step{line: first, verb: "file", args: []string{name}, on: on, text: strings.Join(body, "")})
	case slices.Contains([]string{"console", "sh", "bash"}, language):
		return p.commands(first, body, mark)
	default:
		return fmt.Errorf("line %d: this block of %q is neither run nor marked", first, language)
	}
	return nil
}

// commands splits a block into commands and what they print.
func (p *parser) commands(first int, body []string, mark Step) error {
	prompts := slices.ContainsFunc(body, func(line string) bool { return strings.HasPrefix(line, "$ ") })
	for i := 0; i < len(body); {
		s := Step{line: first + i + 1, verb: "command", on: mark.on, want: mark.want, text: body[i]}
		if prompts && !strings.HasPrefix(body[i], "$ ") {
			s.verb = "output"
		}
		s.text = strings.TrimPrefix(s.text, "$ ")
		for i++; i < len(body); i++ {
			if s.verb == "output" {
				if strings.HasPrefix(body[i], "$ ") {
					break
				}
			} else if complete(s.text) {
				break
			}
			s.text += body[i]
		}
		if s.verb == "command" && !complete(s.text) {
			return fmt.Errorf("line %d: %q is no complete command", s.line, s.text)
		}
		if strings.TrimSpace(s.text) != "" {
			p.steps = append(p.steps, s)
		}
	}
	return nil
}

// complete reports whether the shell can run these lines without more of them.
func complete(command string) bool {
	if strings.HasSuffix(command, "\\\n") {
		return false
	}
	if !strings.ContainsAny(command, "<'\"(") && !compound.MatchString(command) {
		return true
	}
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = strings.NewReader(command)
	out, err := cmd.CombinedOutput()
	return err == nil && len(out) == 0
}
