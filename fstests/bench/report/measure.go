package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// scenarios are patterns of benchmarks, as far as the tool.
var scenarios = []struct {
	name, pattern string
	by            string // the part of the name that varies, "rate" or "rtt"
	devices       bool   // also with a given source and target
}{
	{"changed-push", "^BenchmarkChanged$/^way=push$", "rate", true},
	{"changed-pull", "^BenchmarkChanged$/^way=pull$", "rate", true},
	{"gathered-push", "^BenchmarkGathered$/^way=push$", "rate", true},
	{"far-push", "^BenchmarkFar$/^way=push$", "rtt", true},
	{"far-pull", "^BenchmarkFar$/^way=pull$", "rtt", true},
	{"first-push", "^BenchmarkFirst$/^way=push$", "", false},
	{"first-pull", "^BenchmarkFirst$/^way=pull$", "", false},
	{"far-first-push", "^BenchmarkFarFirst$/^way=push$", "rtt", false},
}

func scenarioNames() (names []string) {
	for _, s := range scenarios {
		names = append(names, s.name)
	}
	return names
}

// output is that of an earlier run, or of one for each size, and what there is when one of them failed.
func (s settings) output(progress io.Writer) (text string, err error) {
	if s.input != "" {
		b, err := os.ReadFile(s.input)
		return string(b), err
	}
	pattern, err := s.pattern()
	if err != nil {
		return "", err
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	var failed error
	both := io.MultiWriter(&out, progress)
	if s.out != "" { // at once, so that it is there when this is interrupted
		if err := writeAll(s.out, nil); err != nil {
			return "", err
		}
		f, err := os.Create(filepath.Join(s.out, outputFile))
		if err != nil {
			return "", err
		}
		defer f.Close()
		both = io.MultiWriter(&out, progress, f)
	}
	for _, size := range s.sizes {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", pattern,
			"-benchtime", "1x", "-count", fmt.Sprint(s.count), "-timeout", "0", "./fstests/bench")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "BLOCKDEV_BENCH_SIZE="+size, "BLOCKDEV_BENCH_SOURCE="+s.source,
			"BLOCKDEV_BENCH_TARGET="+s.target, "BLOCKDEV_BENCH_OVERWRITE="+s.overwrite)
		cmd.Stdout, cmd.Stderr = both, both
		if err := cmd.Run(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("go test: %w", err))
		}
		if s.source != "" {
			break // it has one size
		}
	}
	return out.String(), failed
}

// pattern selects the benchmarks.
func (s settings) pattern() (string, error) {
	for _, name := range s.scenarios {
		if !slices.Contains(scenarioNames(), name) {
			return "", fmt.Errorf("there is no scenario %q, only %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	for _, name := range s.tools {
		if _, ok := looks[name]; !ok {
			return "", fmt.Errorf("there is no tool %q, only %s", name, strings.Join(slices.Sorted(maps.Keys(looks)), ", "))
		}
	}
	var parts []string
	for _, scenario := range scenarios {
		if !slices.Contains(s.scenarios, scenario.name) || s.source != "" && !scenario.devices {
			continue
		}
		part := scenario.pattern
		if only := map[string][]string{"rate": s.rates, "rtt": s.rtts}[scenario.by]; scenario.by != "" {
			part += "/" + oneOf(scenario.by, only)
		}
		parts = append(parts, part+"/"+oneOf("tool", s.tools))
	}
	if parts == nil {
		return "", errors.New("none of the scenarios can be run with a given source and target")
	}
	return strings.Join(parts, "|"), nil
}

// oneOf is the pattern of key=value with one of the values, or any.
func oneOf(key string, values []string) string {
	if len(values) == 0 {
		return "^" + key + "="
	}
	var quoted []string
	for _, v := range values {
		quoted = append(quoted, regexp.QuoteMeta(v))
	}
	return "^" + key + "=(" + strings.Join(quoted, "|") + ")$"
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("no go.mod above the working folder: start this in the source tree")
	}
	return filepath.Dir(mod), nil
}
