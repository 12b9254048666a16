// What the page and its OPAQUE worker say to each other.

/** A request to the worker. */
export type OpaqueRequest =
  | { op: 'register'; password: string }
  | { op: 'registered'; password: string; state: string; response: string }
  | { op: 'login'; password: string }
  | { op: 'loggedIn'; password: string; state: string; response: string };

/** What a first step gives: a message for the directory, and the state for the second step. */
export interface Begun {
  state: string;
  message: string;
}

/** What a second step gives: a message for the directory, and the key that only the password gives. */
export interface Finished {
  message: string;
  exportKey: string;
}

/** The worker's answer; null: the password is not the one of the registration. */
export type OpaqueAnswer = { ok: Begun | Finished | null } | { failed: string };
