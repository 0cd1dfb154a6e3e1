package host

import (
	"fmt"
	"strings"
)

// shellWord quotes s as one word of a command line that sh, bash, dash, ash,
// zsh, ksh, fish, csh and tcsh all read alike. Quote, backslash and
// exclamation mark cannot stand inside single quotes in all of these, so they
// are escaped outside of them. s must have passed checkWord.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, needsQuote) {
		return s
	}
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range []byte(s) {
		switch r {
		case '\'', '\\', '!':
			b.WriteString(`'\`)
			b.WriteByte(r)
			b.WriteByte('\'')
		default:
			b.WriteByte(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

// homeWord is shellWord for a path in which a leading "~/" stands for the home
// directory on the host.
func homeWord(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return "~/" + shellWord(rest)
	}
	return shellWord(path)
}

func needsQuote(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("/._-+:@,", r)
}

// checkWord refuses what no shell quotes alike: control characters, line ends
// above all.
func checkWord(s string) error {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return fmt.Errorf("%q holds control characters or is not UTF-8", s)
		}
	}
	return nil
}

// checkWords checks all configured text that reaches a command line.
func checkWords(cfg Config) error {
	for name, value := range map[string]string{
		"host": cfg.Host, "user": cfg.User, "port": cfg.Port,
		"helper_path": cfg.HelperPath, "helper_dir": cfg.HelperDir,
	} {
		if err := checkWord(value); err != nil {
			return refuse(cfg.Host, "connect", KindConfig, "option %s: %w", name, err)
		}
		// An ssh program would take it for one of its options.
		if strings.HasPrefix(value, "-") {
			return refuse(cfg.Host, "connect", KindConfig, "option %s: %q must not begin with a dash", name, value)
		}
	}
	if d := cfg.HelperDir; d != "" && !strings.HasPrefix(d, "/") && !strings.HasPrefix(d, "~/") {
		return refuse(cfg.Host, "connect", KindConfig, "option helper_dir: %q must begin with / or ~/", d)
	}
	for _, r := range cfg.Port {
		if r < '0' || r > '9' {
			return refuse(cfg.Host, "connect", KindConfig, "option port: %q is not a number", cfg.Port)
		}
	}
	return nil
}
