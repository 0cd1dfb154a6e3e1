package snapshot

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// The program starts itself for what must outlive it. The role is taken before main, so that it is there in each
// program that contains this package: the helper, rclone with the backend, and their tests.
func init() {
	if len(os.Args) < 4 || os.Args[0] != processName {
		return
	}
	// A helper that is gone shows as an error of a write. The terminal, and the end of a login, are none of our business.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGHUP, syscall.SIGINT)
	if err := play(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// play runs one role with its two arguments.
func play(role, first, second string) error {
	switch role {
	case roleKeeper:
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		return runKeeper(ctx, first, second)
	case roleFreezer, roleWatcher:
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return err
		}
		limit := time.Duration(n)
		if role == roleFreezer {
			return freezer(limit, second)
		}
		return watcher(limit, second)
	}
	return fmt.Errorf("no role is called %q", role)
}
