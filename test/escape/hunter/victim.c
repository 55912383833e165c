/* Ends at once: a program that everybody may read, with as short a life as a shim's. */
int main(void)
{
	return 0;
}
