/* Runs a fuzz target over files, without libFuzzer: each argument is a file or a directory of
 * files. Every input ends at a page that must not be touched. */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

#define INPUT_MAX (1U << 20)

static uint32_t inputs;

static void run_file(const char *path, uint8_t *edge)
{
    static uint8_t room[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    size_t n = fread(room, 1, sizeof room, file);
    CHECK(n < sizeof room);
    fclose(file);
    printf("%s\n", path);
    fflush(stdout); /* so that it is known which one it was */
    LLVMFuzzerTestOneInput(memcpy(edge - n, room, n), n);
    inputs++;
}

static void run_directory(const char *path, uint8_t *edge)
{
    char name[4096];
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        CHECK(snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name);
        run_file(name, edge);
    }
    closedir(directory);
}

int main(int argc, char **argv)
{
    uint8_t *edge = guarded(INPUT_MAX) + INPUT_MAX;
    for (int i = 1; i < argc; i++) {
        struct stat what;
        CHECK(stat(argv[i], &what) == 0);
        (S_ISDIR(what.st_mode) ? run_directory : run_file)(argv[i], edge);
    }
    CHECK(inputs > 0);
    printf("ok %u inputs\n", inputs);
    return 0;
}
