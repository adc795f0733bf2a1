package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
	// maxAnswer bounds what is read of an answer: a reason, not a page.
	maxAnswer = 4 << 10
)

// RefusedError is an answer that will not change by sending again.
type RefusedError struct {
	Status int
	Answer string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the receiver refused with %d %s: %s", e.Status, http.StatusText(e.Status), e.Answer)
}

// deliver posts b until it is accepted, refused or given up.
func (s *sender) deliver(ctx context.Context, b batch) error {
	body := append(b.body, bodyEnd...)
	deadline := time.Now().Add(s.cfg.GiveUp)
	for backoff := firstBackoff; ; backoff = min(backoff*3/2, maxBackoff) {
		after, err := s.post(ctx, body)
		if err == nil {
			s.accept(b.events, len(body))
			return nil
		}
		var refused *RefusedError
		if errors.As(err, &refused) || ctx.Err() != nil {
			return err
		}
		wait := backoff
		if after > 0 {
			wait = after
		}
		if time.Now().Add(wait).After(deadline) {
			return fmt.Errorf("giving up a batch of %d events after %s: %w", b.events, s.cfg.GiveUp, err)
		}
		s.retried.Add(1)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (s *sender) accept(events, size int) {
	s.accepted.Add(int64(events))
	s.batches.Add(1)
	s.bytes.Add(int64(size))
	if s.cfg.Progress != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cfg.Progress(s.counts())
	}
}

// post makes one attempt. after is the receiver's Retry-After, 0 without.
func (s *sender) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("making the request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, */*")
	if s.cfg.Token != "" {
		request.Header.Set("Authorization", "Bearer "+s.cfg.Token.Reveal())
	}
	response, err := s.client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("posting: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("reading the answer: %w", err)
	}
	code := response.StatusCode
	if code == http.StatusOK {
		return 0, nil
	}
	text := strings.TrimSpace(string(answer))
	if code == http.StatusTooManyRequests || code >= 500 || code == http.StatusRequestTimeout {
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil || seconds < 0 || seconds > 3600 {
			seconds = 0
		}
		return time.Duration(seconds) * time.Second, fmt.Errorf("the receiver answered %d: %s", code, text)
	}
	if location := response.Header.Get("Location"); location != "" {
		text = "it redirects to " + location + ", where events would be lost; send there directly"
	}
	return 0, &RefusedError{Status: code, Answer: text}
}
