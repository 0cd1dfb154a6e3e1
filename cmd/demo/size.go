package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is a number of bytes, as a flag and in the table.
type size int64

const units = "KMGT"

// String is n with three or four digits and a binary unit.
func (n size) String() string {
	value, unit := float64(n), -1
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	switch {
	case unit < 0:
		return fmt.Sprintf("%d B", int64(n))
	case value < 10:
		return fmt.Sprintf("%.2f %ciB", value, units[unit])
	case value < 100:
		return fmt.Sprintf("%.1f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.0f %ciB", value, units[unit])
}

// Set implements flag.Value. An image of less than a few blocks shows nothing.
func (n *size) Set(text string) error {
	number, factor := text, int64(1)
	if last := len(text) - 1; last > 0 {
		if at := strings.IndexByte(units, text[last]&^0x20); at >= 0 {
			number, factor = text[:last], 1<<(10*(at+1))
		}
	}
	value, err := strconv.ParseInt(number, 10, 64)
	if err != nil || value <= 0 || value > maxSize/factor || value*factor < minSize {
		return fmt.Errorf("give a number from 64K to 1T, such as 256M")
	}
	*n = size(value * factor)
	return nil
}

const (
	minSize = 64 << 10
	maxSize = 1 << 40
)
