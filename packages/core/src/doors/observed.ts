import { Observable, type Subscriber } from 'rxjs';
import type { Caller } from './caller.js';
import type { Asked, Door } from './door.js';

/**
 * A stream behind a door: each subscription is an operation of its own. What happens while it is being recorded is kept, so that nothing is missed
 * between subscribing and being let in; who is not let in gets the refusal as the stream's error.
 */
export function observed<T>(door: Door, caller: Caller, asked: Asked, stream$: Observable<T>): Observable<T> {
  return new Observable<T>((subscriber) => {
    let kept: ((subscriber: Subscriber<T>) => void)[] | undefined = [];
    const tell = (what: (subscriber: Subscriber<T>) => void): void => {
      if (kept === undefined) what(subscriber);
      else kept.push(what);
    };
    const subscription = stream$.subscribe({
      next: (value) => tell((to) => to.next(value)),
      error: (error: unknown) => tell((to) => to.error(error)),
      complete: () => tell((to) => to.complete()),
    });
    door
      .read(caller, asked, async () => undefined)
      .then(
        () => {
          const waiting = kept ?? [];
          kept = undefined;
          for (const what of waiting) what(subscriber);
        },
        (error: unknown) => {
          subscription.unsubscribe();
          subscriber.error(error);
        },
      );
    return subscription;
  });
}
