// OPAQUE (RFC 9807) off the page's thread: its slow hash takes 64 MiB and a good part of a second.

import { client, ready } from '@serenity-kit/opaque';
import type { Begun, Finished, OpaqueAnswer, OpaqueRequest } from './protocol';

/** Argon2id with 64 MiB, three passes and four lanes (RFC 9106's second recommendation); the client's too. */
const keyStretching = 'memory-constrained';

async function answer(request: OpaqueRequest): Promise<Begun | Finished | null> {
  await ready;
  const { password } = request;
  switch (request.op) {
    case 'register': {
      const { clientRegistrationState, registrationRequest } = client.startRegistration({ password });
      return { state: clientRegistrationState, message: registrationRequest };
    }
    case 'registered': {
      const { registrationRecord, exportKey } = client.finishRegistration({
        password,
        clientRegistrationState: request.state,
        registrationResponse: request.response,
        keyStretching,
      });
      return { message: registrationRecord, exportKey };
    }
    case 'login': {
      const { clientLoginState, startLoginRequest } = client.startLogin({ password });
      return { state: clientLoginState, message: startLoginRequest };
    }
    case 'loggedIn': {
      const finished = client.finishLogin({
        password,
        clientLoginState: request.state,
        loginResponse: request.response,
        keyStretching,
      });
      return finished === undefined ? null : { message: finished.finishLoginRequest, exportKey: finished.exportKey };
    }
  }
}

addEventListener('message', (event: MessageEvent<OpaqueRequest>) => {
  answer(event.data).then(
    (ok) => postMessage({ ok } satisfies OpaqueAnswer),
    (error: unknown) => postMessage({ failed: String(error) } satisfies OpaqueAnswer),
  );
});
