// The peer of yesterday: the last version of the Go SDK that has the HTTP implementation. It knows the deprecated forms alone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/nexus-rpc/sdk-go/nexus"
	"nexuskit.test/control"
)

type handler struct {
	nexus.UnimplementedHandler
	log *control.Log
}

func (h *handler) StartOperation(
	ctx context.Context, service, operation string, input *nexus.LazyValue, options nexus.StartOperationOptions,
) (nexus.HandlerStartOperationResult[any], error) {
	data, err := io.ReadAll(input.Reader)
	if err != nil {
		return nil, err
	}
	nexus.AddHandlerLinks(ctx, links(nil, control.Link{URL: "https://peer.example/records/1?a=b", Type: "peer.Record"})...)
	switch operation {
	case "echo", "with/slash":
		header := nexus.Header{}
		if kind := input.Reader.Header.Get("type"); kind != "" {
			header["type"] = kind
		}
		return &nexus.HandlerStartOperationResultSync[any]{Value: &nexus.Content{Header: header, Data: data}}, nil
	case "seen":
		_, hasDeadline := ctx.Deadline()
		return &nexus.HandlerStartOperationResultSync[any]{Value: control.Seen{
			Service: service, Operation: operation, RequestID: options.RequestID, CallbackURL: options.CallbackURL,
			CallbackHeader: options.CallbackHeader, Header: options.Header, Links: told(options.Links),
			HasDeadline: hasDeadline,
		}}, nil
	case "later":
		return &nexus.HandlerStartOperationResultAsync{OperationToken: "token of go"}, nil
	case "process":
		var payment control.Payment
		if err := json.Unmarshal(data, &payment); err != nil || payment.Cents <= 0 {
			return nil, nexus.HandlerErrorf(nexus.HandlerErrorTypeBadRequest, "input: %v", err)
		}
		receipt := control.Receipt{Order: payment.Order, Charged: payment.Cents}
		return &nexus.HandlerStartOperationResultSync[any]{Value: receipt}, nil
	case "end":
		var wanted control.Wanted
		if err := json.Unmarshal(data, &wanted); err != nil {
			return nil, nexus.HandlerErrorf(nexus.HandlerErrorTypeBadRequest, "input: %v", err)
		}
		return nil, end(wanted)
	}
	return nil, nexus.HandlerErrorf(nexus.HandlerErrorTypeNotFound, "no operation %q", operation)
}

func (h *handler) CancelOperation(
	_ context.Context, service, operation, token string, options nexus.CancelOperationOptions,
) error {
	if token == "unknown" {
		return nexus.HandlerErrorf(nexus.HandlerErrorTypeNotFound, "no operation %q", token)
	}
	h.log.Cancel(control.Seen{Service: service, Operation: operation, Token: token, Header: options.Header})
	return nil
}

func (h *handler) CompleteOperation(_ context.Context, completion *nexus.CompletionRequest) error {
	header := map[string]string{}
	for name, values := range completion.HTTPRequest.Header {
		header[name] = values[0]
	}
	received := control.Received{
		State: string(completion.State), Token: completion.OperationToken, StartTimeMS: completion.StartTime.UnixMilli(),
		Links: told(completion.Links), Header: header,
	}
	if completion.Error != nil {
		outcome := failed(completion.Error)
		received.Error = &outcome
	} else {
		data, err := io.ReadAll(completion.Result.Reader)
		if err != nil {
			return err
		}
		received.Content, received.ContentType = data, completion.Result.Reader.Header.Get("type")
	}
	if header["Token"] == "unknown" {
		return nexus.HandlerErrorf(nexus.HandlerErrorTypeNotFound, "nobody waits")
	}
	h.log.Receive(received)
	return nil
}

func end(wanted control.Wanted) error {
	cause := &nexus.FailureError{Failure: nexus.Failure{
		Message: wanted.Message, Metadata: map[string]string{"type": "peer.Inner"}, Details: wanted.Details,
	}}
	if wanted.Kind == "handler" {
		err := &nexus.HandlerError{Type: nexus.HandlerErrorType(wanted.Type), Cause: cause}
		if wanted.Retryable != nil && *wanted.Retryable {
			err.RetryBehavior = nexus.HandlerErrorRetryBehaviorRetryable
		} else if wanted.Retryable != nil {
			err.RetryBehavior = nexus.HandlerErrorRetryBehaviorNonRetryable
		}
		return err
	}
	return &nexus.OperationError{State: nexus.OperationState(wanted.Kind), Cause: cause}
}

func call(request *http.Request, asked control.Call) control.Outcome {
	ctx := request.Context()
	if asked.TimeoutMS > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(asked.TimeoutMS)*time.Millisecond)
		defer cancel()
	}
	client, err := nexus.NewHTTPClient(nexus.HTTPClientOptions{BaseURL: asked.BaseURL, Service: asked.Service})
	if err != nil {
		return failed(err)
	}
	if asked.Token != "" {
		handle, err := client.NewHandle(asked.Operation, asked.Token)
		if err != nil {
			return failed(err)
		}
		if err := handle.Cancel(ctx, nexus.CancelOperationOptions{Header: asked.Header}); err != nil {
			return failed(err)
		}
		return control.Outcome{Kind: "canceled"}
	}
	result, err := client.StartOperation(ctx, asked.Operation, content(asked.ContentType, asked.Content), nexus.StartOperationOptions{
		RequestID: asked.RequestID, CallbackURL: asked.CallbackURL, CallbackHeader: asked.CallbackHeader,
		Header: asked.Header, Links: links(asked.Links),
	})
	if err != nil {
		return failed(err)
	}
	if result.Pending != nil {
		return control.Outcome{Kind: "started", Token: result.Pending.Token, Links: told(result.Links)}
	}
	defer result.Successful.Reader.Close()
	data, err := io.ReadAll(result.Successful.Reader)
	if err != nil {
		return failed(err)
	}
	return control.Outcome{
		Kind: "succeeded", Content: data, ContentType: result.Successful.Reader.Header.Get("type"), Links: told(result.Links),
	}
}

func complete(request *http.Request, asked control.Completion) control.Outcome {
	var completion nexus.OperationCompletion
	startTime := time.UnixMilli(asked.StartTimeMS).UTC()
	if asked.State == "succeeded" {
		succeeded, err := nexus.NewOperationCompletionSuccessful(
			content(asked.ContentType, asked.Content),
			nexus.OperationCompletionSuccessfulOptions{OperationToken: asked.Token, StartTime: startTime, Links: links(asked.Links)},
		)
		if err != nil {
			return failed(err)
		}
		succeeded.Header = asked.Header
		completion = succeeded
	} else {
		cause := &nexus.FailureError{Failure: nexus.Failure{Message: asked.Message, Details: asked.Details}}
		unsuccessful, err := nexus.NewOperationCompletionUnsuccessful(
			&nexus.OperationError{State: nexus.OperationState(asked.State), Cause: cause},
			nexus.OperationCompletionUnsuccessfulOptions{OperationToken: asked.Token, StartTime: startTime, Links: links(asked.Links)},
		)
		if err != nil {
			return failed(err)
		}
		unsuccessful.Header = asked.Header
		completion = unsuccessful
	}
	sent, err := nexus.NewCompletionHTTPRequest(request.Context(), asked.URL, completion)
	if err != nil {
		return failed(err)
	}
	response, err := http.DefaultClient.Do(sent)
	if err != nil {
		return failed(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return control.Outcome{Kind: "error", Message: response.Status}
	}
	return control.Outcome{Kind: "completed"}
}

func failed(err error) control.Outcome {
	outcome := control.Outcome{Kind: "error", Message: err.Error()}
	var operationError *nexus.OperationError
	var handlerError *nexus.HandlerError
	var failureError *nexus.FailureError
	var cause error
	switch {
	case errors.As(err, &operationError):
		outcome.Kind, outcome.State, outcome.Message = "operation_error", string(operationError.State), ""
		cause = operationError.Cause
	case errors.As(err, &handlerError):
		outcome.Kind, outcome.Type, outcome.Message = "handler_error", string(handlerError.Type), ""
		outcome.Retryable = handlerError.Retryable()
		if handlerError.RetryBehavior != nexus.HandlerErrorRetryBehaviorUnspecified {
			outcome.Override = &outcome.Retryable
		}
		cause = handlerError.Cause
	case errors.As(err, &failureError):
		outcome.Kind, outcome.Message, outcome.Details = "failure", failureError.Failure.Message, failureError.Failure.Details
	}
	if cause != nil {
		inner := failed(cause)
		outcome.Cause = &inner
	}
	return outcome
}

func content(kind string, data []byte) *nexus.Content {
	header := nexus.Header{}
	if kind != "" {
		header["type"] = kind
	}
	return &nexus.Content{Header: header, Data: data}
}

func links(given []control.Link, more ...control.Link) []nexus.Link {
	var found []nexus.Link
	for _, link := range append(given, more...) {
		parsed, err := url.Parse(link.URL)
		if err != nil {
			panic(err)
		}
		found = append(found, nexus.Link{URL: parsed, Type: link.Type})
	}
	return found
}

func told(given []nexus.Link) []control.Link {
	found := []control.Link{}
	for _, link := range given {
		found = append(found, control.Link{URL: link.URL.String(), Type: link.Type})
	}
	return found
}

func main() {
	log := &control.Log{}
	peer := &handler{log: log}
	control.Serve(control.Peer{
		Services:    nexus.NewHTTPHandler(nexus.HandlerOptions{Handler: peer}),
		Completions: nexus.NewCompletionHTTPHandler(nexus.CompletionHandlerOptions{Handler: peer}),
		Call:        call,
		Complete:    complete,
	}, log)
}
