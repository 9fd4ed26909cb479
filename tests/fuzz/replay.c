/* Runs a fuzz target over files, for compilers without libFuzzer: replay FILE... */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **names)
{
    for (int n = 1; n < count; n++) {
        FILE *file = fopen(names[n], "rb");
        if (!file) {
            perror(names[n]);
            return 1;
        }
        fseek(file, 0, SEEK_END);
        long size = ftell(file);
        rewind(file);
        uint8_t *data = malloc(size ? (size_t)size : 1);
        if (fread(data, 1, (size_t)size, file) != (size_t)size)
            return 1;
        fclose(file);
        fprintf(stderr, "%s\n", names[n]);
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data);
    }
    printf("%d files\n", count - 1);
    return 0;
}
