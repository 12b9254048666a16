/** The password does not open the account, as the browser finds out before the directory does. */
export class WrongPassword extends Error {
  override name = 'WrongPassword';
}
