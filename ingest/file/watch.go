package file

import (
	"github.com/fsnotify/fsnotify"
)

// watcher says that something changed, not what: polling finds out, and polling alone
// would do, later.
type watcher struct {
	fs   *fsnotify.Watcher
	dirs map[string]bool
	wake chan struct{}
	done chan struct{}
}

// startWatcher returns a channel that tells of changes, and what ends it.
func (s *Source) startWatcher() (wake <-chan struct{}, stop func()) {
	if !s.cfg.Follow {
		return nil, func() {}
	}
	w, err := newWatcher()
	if err != nil {
		s.unwatched(err)
		return nil, func() {}
	}
	s.watcher = w
	return w.wake, w.close
}

func newWatcher() (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{
		fs: fs, dirs: map[string]bool{}, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	defer close(w.done)
	for {
		select {
		case _, ok := <-w.fs.Events:
			if !ok {
				return
			}
		case _, ok := <-w.fs.Errors: // such as an overflow: something changed
			if !ok {
				return
			}
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) close() {
	_ = w.fs.Close()
	<-w.done
}

// watch asks the kernel for changes in a directory.
func (s *Source) watch(dir string) {
	if s.watcher == nil || s.watcher.dirs[dir] {
		return
	}
	if err := s.watcher.fs.Add(dir); err != nil {
		s.unwatched(err)
	}
	s.watcher.dirs[dir] = true
}

// unwatch makes a directory that could not be read be watched anew once it can.
func (s *Source) unwatch(dir string) {
	if s.watcher != nil {
		delete(s.watcher.dirs, dir)
	}
}

func (s *Source) unwatched(err error) {
	s.metrics.errors.WithLabelValues(reasonWatch).Inc()
	s.logger.Warn("changes are found by polling only", "err", err,
		"remedy", "raise fs.inotify.max_user_watches and max_user_instances")
}
