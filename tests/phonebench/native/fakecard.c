/* LD_PRELOAD for programs that look for a card in the kernel before they use ALSA's "default" (mumble): they see one, number 0. */
int snd_card_next(int *card) {
  *card = *card < 0 ? 0 : -1;
  return 0;
}
